"""Real parts to test against: Apptainer, images, an ordinary user, and a stand-in for CVMFS that fails on demand."""
