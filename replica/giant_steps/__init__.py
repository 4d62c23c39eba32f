"""Feature learning by a few large gradient steps: alignment, order parameters, batch reuse, and experiments.

`problem` asks the questions with text; the other files take numbers.

References
----------
.. [1] Y. Dandi, F. Krzakala, B. Loureiro, L. Pesce, L. Stephan, arXiv:2305.18270; docs/theory/giant_steps.md.
"""
