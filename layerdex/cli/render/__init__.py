"""Results as people see them: tables, lines and pictures, a file for each kind of result.

Files here know results and the terminal, but no command and no option. Start reading at `tables`.
"""
