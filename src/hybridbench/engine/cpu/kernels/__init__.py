"""The CPU engine's inner loops: a program, forward and adjoint backward, over a batch, compiled by `native`.

Layout. A block holds 16 >> q samples: lane l of a vector is sample l & (16 >> q) - 1 of the block, and the upper q bits of l
are the lowest q bits of the physical index (q > 0 only for batches of less than 16, so that no lane is idle). A state of a
block is rows of two vectors, real and imaginary part; row r holds the amplitudes r << q | (l >> 4 - q).

Backward (Jones and Gacon 2020, arXiv:2009.02823): with L the loss, `lam` is the vector with dL = Re <lam|dpsi>; both go
back through the circuit, and a gate exp(-i a/2 P) contributes dL/da = 1/2 Im <lam|P psi>. For a run of rotations of one
virtual qubit Im <lam|P psi> is taken for P = X, Y, Z at one place, and each angle's share follows by rotating that vector.

Sums over rows are cut into the same chunks whatever the number of threads, so that results do not depend on it.

Functions take `ctx`, a table of 64-bit words (`layout.TASK` and the next), and `one`, a number whose type is the precision.
"""
