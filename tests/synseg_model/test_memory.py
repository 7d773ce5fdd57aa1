import os
import subprocess
import sys

PROGRAM = """
import resource
import sys
from synseg_model.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        [bytes(640 * 480 * 3) for _ in range(4)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = len(sys.argv) > 1 and keep_freed_memory()
faults()
print(kept, faults())
"""


def faults(*arguments):
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    ended = subprocess.run(command, env=usual, capture_output=True, text=True, check=True)
    kept, count = ended.stdout.split()
    return kept == "True", int(count)


def test_freed_memory_is_kept_for_the_next_image():
    kept, count = faults("keep")
    if kept:  # with glibc
        assert count < faults()[1] / 10
