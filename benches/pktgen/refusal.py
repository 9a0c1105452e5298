"""What cannot be done, said in one sentence, and programs run so that their errors are said too."""

import subprocess


class Refusal(Exception):
    """Names the input, the rule it breaks, and the remedy."""


def run(words, reason):
    """Standard output of a program; `reason` says what it was for if it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Refusal(f"{reason}: there is no program `{words[0]}` here; install it") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise Refusal(f"{reason}: `{' '.join(words)}` ended with {done.returncode} and said: {said}")
    return done.stdout
