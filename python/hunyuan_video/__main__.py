"""`python -m hunyuan_video` is the `hunyuan-video` command."""

import sys

from hunyuan_video.cli import main

if __name__ == "__main__":
    sys.exit(main())
