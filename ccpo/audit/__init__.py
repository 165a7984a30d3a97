"""From any number back to its bytes: what an experiment is made of, whether it is so, and
whether it can be derived again. On top of all other rooms, since it runs what they ship.
"""
