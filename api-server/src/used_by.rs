//! Who uses what.
