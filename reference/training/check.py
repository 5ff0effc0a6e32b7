"""All tests of the training code; those that train need torch >= 2.

python3 -m training.check
"""

import torch

from . import test_clips, test_fast, test_loop

if __name__ == "__main__":
    test_clips.main()
    if hasattr(torch, "_foreach_lerp_"):
        test_loop.main()
        test_fast.main()
    else:
        print(f"torch {torch.__version__} is too old to train with: test_loop and test_fast are left out")
