//! `filter=` of lists.
