"""Pure decisions and assembly: octets and frozen values in, octets and frozen values out.

No socket, file, clock, database or configuration is read here; the time, randomness and serial numbers are arguments.
"""
