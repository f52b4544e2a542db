"""Random numbers go to a file until one of them is small: a source, a sink, and an end."""

import random
import sys

import darray as da


def write(file, number):
    """Append a number; the first below 0.01 ends the stream."""
    print(number, file=file)
    if number < 0.01:
        da.finish_stream(result=number)


def numbers_to_file(path, draw=random.random):
    """Write what `draw` gives to a file of that path; the number that ended it."""
    with open(path, "w") as file:
        with da.spawn_streaming() as stream:
            number = da.spawn(draw)
            written = da.spawn(write, file, number)
        stream.wait()
    return written.result()


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else "numbers.txt"
    last = numbers_to_file(path, random.Random(0).random)
    with open(path) as file:
        print(len(file.readlines()), "numbers in", path, "and the last is", last)
