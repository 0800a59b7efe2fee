//! Managed networks: documents in the store, bridges on the host.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::Network;
use network::BridgeConfig;

use crate::intents::Intent;
use crate::store::{Change, Revision, keys, list_as, put_as};
use crate::warnings::{Severity, raise, resolve};
use crate::{ApiError, Daemon, crash};

/// The kind of warning about a network that could not be made.
const UNAVAILABLE: &str = "Network unavailable";

fn url(network: &Network) -> String {
    format!(
        "/1.0/networks/{}{}",
        network.name,
        crate::projects::url_suffix(&network.project)
    )
}

fn bridge(network: &Network) -> Result<BridgeConfig, ApiError> {
    let mut keys = network.config.clone();
    keys.retain(|key, _| !key.starts_with("volatile."));
    Ok(BridgeConfig::from_keys(&network.name, &keys)?)
}

/// Makes a network, with its document. Keys that are left out get Incus' defaults, which are stored.
pub async fn create(daemon: &Arc<Daemon>, mut network: Network) -> Result<Network, ApiError> {
    // Networks of all projects are links of one host.
    if daemon
        .store
        .list(keys::NETWORKS)?
        .iter()
        .any(|document| document.name() == network.name)
    {
        return Err(ApiError::conflict("The network already exists"));
    }
    network.config.retain(|_, value| !value.is_empty());
    daemon
        .networks
        .complete_keys(&network.name, &mut network.config)
        .await?;
    let config = bridge(&network)?;
    "Created".clone_into(&mut network.status);
    network.managed = true;
    network.locations = Some(vec![api::LOCATION_NONE.to_owned()]);
    let begun = Intent::NetworkCreate {
        network: network.name.clone(),
    }
    .begin(&*daemon.store)?;
    crash::point("network-create-intent");
    if let Err(error) = daemon.networks.ensure_bridge(&config).await {
        // A link of that name that is not ours was not touched, and settling does not touch it either.
        begun.settle(daemon).await;
        return Err(error.into());
    }
    crash::point("network-create-made");
    let key = keys::network(&network.project, &network.name);
    let written = Change::put(key, &network, Revision::Absent)
        .and_then(|change| daemon.store.transact(vec![change, begun.ending()]));
    if let Err(error) = written {
        begun.settle(daemon).await;
        return Err(error.into());
    }
    Ok(network)
}

/// Changes a network's document and then the bridge; when the bridge cannot be that way, the document goes back.
pub async fn update(
    daemon: &Arc<Daemon>,
    old: Network,
    mut new: Network,
    expect: Revision,
) -> Result<(), ApiError> {
    new.config.retain(|_, value| !value.is_empty());
    daemon.networks.complete_keys(&new.name, &mut new.config).await?;
    let config = bridge(&new)?;
    let key = keys::network(&new.project, &new.name);
    let written = put_as(&*daemon.store, &key, &new, expect)?;
    crash::point("network-update-written");
    if let Err(error) = daemon.networks.ensure_bridge(&config).await {
        put_as(&*daemon.store, &key, &old, Revision::Exact(written.revision()))?;
        if let Ok(config) = bridge(&old)
            && let Err(again) = daemon.networks.ensure_bridge(&config).await
        {
            raise(
                daemon,
                Severity::Moderate,
                UNAVAILABLE,
                &url(&old),
                &crate::error::chain(&again),
            );
        }
        return Err(error.into());
    }
    Ok(())
}

/// Gives a network that nothing uses another name.
pub async fn rename(
    daemon: &Arc<Daemon>,
    old: Network,
    name: &str,
    expect: Revision,
) -> Result<(), ApiError> {
    if daemon
        .store
        .list(keys::NETWORKS)?
        .iter()
        .any(|document| document.name() == name)
    {
        return Err(ApiError::conflict(format!("Network {name:?} already exists")));
    }
    let new = Network {
        name: name.to_owned(),
        ..old.clone()
    };
    let config = bridge(&new)?;
    let (intent, begun) = Intent::NetworkDelete {
        network: old.name.clone(),
    }
    .prepare()?;
    daemon.store.transact(vec![
        intent,
        Change::delete(keys::network(&old.project, &old.name), expect),
        Change::put(keys::network(&new.project, name), &new, Revision::Absent)?,
    ])?;
    crash::point("network-rename-written");
    // Both bridges have the same addresses, so the old one goes first.
    daemon.networks.remove_bridge(&old.name).await?;
    crash::point("network-rename-removed");
    daemon.networks.ensure_bridge(&config).await?;
    begun.end(&*daemon.store)
}

/// Removes a network that nothing uses.
pub async fn delete(daemon: &Arc<Daemon>, network: &Network, expect: Revision) -> Result<(), ApiError> {
    let (intent, begun) = Intent::NetworkDelete {
        network: network.name.clone(),
    }
    .prepare()?;
    daemon.store.transact(vec![
        intent,
        Change::delete(keys::network(&network.project, &network.name), expect),
    ])?;
    crash::point("network-delete-written");
    daemon.networks.remove_bridge(&network.name).await?;
    crash::point("network-delete-removed");
    begun.end(&*daemon.store)
}

/// Makes every network of the store be there, and takes away what is no longer in it. A network that cannot be made is
/// a warning: instances on other networks go on working.
pub async fn ensure_all(daemon: &Arc<Daemon>) -> Result<(), ApiError> {
    let networks = list_as::<Network>(&*daemon.store, keys::NETWORKS)?;
    let expected: BTreeSet<String> = networks.iter().map(|(network, _)| network.name.clone()).collect();
    match daemon.networks.recover(&expected).await {
        Ok(removed) if removed == network::Recovered::default() => {}
        Ok(removed) => tracing::info!(?removed, "networks of an earlier daemon were removed"),
        Err(error) => tracing::error!(%error, "left-over networks could not be removed"),
    }
    for (network, _) in networks {
        let made = match bridge(&network) {
            Ok(config) => daemon
                .networks
                .ensure_bridge(&config)
                .await
                .map_err(ApiError::from),
            Err(error) => Err(error),
        };
        match made {
            Ok(()) => resolve(daemon, UNAVAILABLE, &url(&network)),
            Err(error) => raise(
                daemon,
                Severity::High,
                UNAVAILABLE,
                &url(&network),
                &error.message,
            ),
        }
    }
    Ok(())
}

/// Makes the first network; that it cannot be made is a warning.
pub async fn bootstrap(daemon: &Arc<Daemon>, name: &str) -> bool {
    let network = Network {
        name: name.to_owned(),
        kind: "bridge".to_owned(),
        project: api::DEFAULT_PROJECT.to_owned(),
        ..Network::default()
    };
    let url = url(&network);
    match create(daemon, network).await {
        Ok(_) => true,
        Err(error) => {
            raise(daemon, Severity::Moderate, UNAVAILABLE, &url, &error.message);
            false
        }
    }
}
