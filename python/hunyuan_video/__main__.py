"""`python -m hunyuan_video` is the `hunyuan-video` command."""

from hunyuan_video.cli import program

if __name__ == "__main__":
    program()
