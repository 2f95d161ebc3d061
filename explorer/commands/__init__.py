"""The subcommands of ``voorwerp``, a file for each group. Imports are made inside, so that ``--help`` is quick."""
