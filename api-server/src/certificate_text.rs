//! Certificates as text: PEM (RFC 7468) and the base64 of their DER form.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Largest certificate that is taken.
const MAX_DER: usize = 64 * 1024;

/// The DER form of base64 text.
pub fn der_of_base64(text: &str) -> Result<Vec<u8>, String> {
    let der = STANDARD
        .decode(text.trim())
        .map_err(|error| format!("Invalid certificate material: {error}"))?;
    // A certificate is a SEQUENCE whose length is at least 256 and less than 65536 bytes (X.690 §8.1.3.5).
    match der[..] {
        [0x30, 0x82, high, low, ..]
            if der.len() == 4 + usize::from(high) * 256 + usize::from(low) && der.len() <= MAX_DER =>
        {
            Ok(der)
        }
        _ => Err("Invalid certificate material: not a DER certificate".to_owned()),
    }
}

/// The DER form of the first certificate in PEM text.
pub fn der_of_pem(text: &str) -> Result<Vec<u8>, String> {
    let body = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map(|(body, _)| body);
    let body = body.ok_or("Invalid certificate: no PEM block")?;
    der_of_base64(&body.split_whitespace().collect::<String>())
}

/// PEM text of a DER form.
pub fn pem_of_der(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("{BEGIN}\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + END + "\n"
}

/// SHA-256 of a DER form in hexadecimal.
pub fn fingerprint(der: &[u8]) -> String {
    format!("{:x}", Sha256::digest(der))
}

#[cfg(test)]
#[path = "certificate_text_tests.rs"]
mod tests;
