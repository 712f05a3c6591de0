"""``python -m interlace`` is ``interlace``; so ``accelerate launch -m interlace adapt ...`` runs it on many devices."""

from .cli import main

if __name__ == "__main__":
    main()
