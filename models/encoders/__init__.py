"""Frame encoders: a picture in, one unit vector out."""
