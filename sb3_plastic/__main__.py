"""``python -m sb3_plastic``: the command ``sb3-plastic``, where its folder is not on the path."""

import sys

from sb3_plastic.cli import main

sys.exit(main())
