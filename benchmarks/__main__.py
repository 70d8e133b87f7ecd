"""`python -m benchmarks cpu|gpu`: this project beside what a user would pick instead."""

from benchmarks.speed.command import main

if __name__ == "__main__":
    main()
