"""What each attempt used: counted beside the answer, recorded, and sent to the control plane."""
