//! Registers of features.

use super::*;

#[test]
fn a_processor_without_transactions_has_no_register_to_control_them() {
    let host = TSX_CTRL | 1;
    assert_eq!(capabilities(host, |_| false), TAA_NO | 1);
    assert_eq!(capabilities(host, |name| name == "rtm"), host);
}
