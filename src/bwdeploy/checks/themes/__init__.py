"""The rules, one theme a file: each ends in its `RULES`. `checks` lists the themes."""
