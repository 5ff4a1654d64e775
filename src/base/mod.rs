//! Words every other module speaks: identifiers, offsets, time, buffers, limits, queues. Pure but for `buffer`'s memory.
