"""DICOM in and out: a file to its frames, where the scan lies on them, and masks as a DICOM Segmentation."""
