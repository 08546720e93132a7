"""What the end-to-end tests are written with: processes, sockets, certificates, metrics.

Not tests. Standard library and pytest only.
"""
