"""Endings of names that videos and pictures in folders have; what a file is says its content."""

from __future__ import annotations

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .wmv .flv .3gp .ogv .y4m".split())
IMAGE_SUFFIXES = frozenset(".png .apng .jpg .jpeg .jfif .gif .webp .avif .bmp .tif .tiff .ppm .pgm".split())
SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES
