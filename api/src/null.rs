//! Go's view of `null`: the zero value.

use serde::{Deserialize, Deserializer};

/// Deserializes `null` as the type's default, as Go does. Use with `#[serde(default, deserialize_with = …)]`.
pub fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}
