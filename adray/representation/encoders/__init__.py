"""Encoders: picture and copy of a creative in, one L2-normalised vector out."""
