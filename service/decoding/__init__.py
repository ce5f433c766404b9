"""From the bytes of an upload to frames.

`cine` opens an upload. `image_file` reads pictures, `video_file` videos, and `dicom` DICOM ultrasound: a new format or
a new rule for pixels belongs there. `decoder_process` runs their decoders with limits on memory and time.
"""
