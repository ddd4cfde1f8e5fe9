"""The tests: a folder for each room, and tests of the contract, of faults, and in a browser."""
