"""All tests of the training code.

python3 -m training.check
"""

from . import test_clips, test_fast, test_loop

if __name__ == "__main__":
    for test in (test_clips, test_loop, test_fast):
        test.main()
