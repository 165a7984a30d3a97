"""Is this message right? Answers read, compared and run; imports nothing of ccpo, and is usable
alone.
"""

# How an answer is to be given, the words after "the final answer": what the verifier reads.
BOXED = "in \\boxed{}"
CODE = "as one Python program in a ```python block"
