//! Tests of transport URLs, row by row of the parity table.
