"""A mask as an image, contours, GeoJSON, run-lengths, or a DICOM Segmentation."""
