//! Making instances: from an image, from nothing, from another instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{Image, InstanceType, InstancesPost, Map, Timestamp};
use serde_json::{Value, json};
use storage::{ContentType, Pool};

use super::content::{self, Content};
use super::crash::{self, Step};
use super::devices::RootDisk;
use super::image_volume;
use super::lock::InstanceLock;
use super::manager::blocking;
use super::record::{self, InstanceRecord, Phase, SnapshotRecord};
use super::{delete, events, ids, names, ports, start, validate};
use crate::operations::OperationContext;
use crate::request::Requestor;
use crate::store::{self, Revision, StoreError, keys};
use crate::{ApiError, Daemon};

/// Size of a virtual machine's root disk when nobody says: Incus' 10 GiB. It is sparse.
pub const DEFAULT_VM_DISK: u64 = 10 << 30;

/// A new instance, checked: everything a client can do wrong has been found.
#[derive(Debug)]
pub struct NewInstance {
    record: InstanceRecord,
    content: Content,
    root: RootDisk,
    start: bool,
}

impl NewInstance {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its project.
    pub fn project(&self) -> &str {
        &self.record.project
    }

    /// What it is made from, as a resource of the operation.
    pub fn source_url(&self) -> Option<String> {
        match &self.content {
            Content::Copy { source, snapshot, .. } => Some(match snapshot {
                Some(snapshot) => format!("/1.0/instances/{}%2F{snapshot}", source.name),
                None => format!("/1.0/instances/{}", source.name),
            }),
            _ => None,
        }
    }
}

/// Checks a request for a new instance.
pub fn check(daemon: &Arc<Daemon>, project: &str, post: InstancesPost) -> Result<NewInstance, ApiError> {
    let put = post.put;
    let name = if post.name.is_empty() {
        names::free(daemon, project)?
    } else {
        post.name
    };
    validate::instance_name(&name)?;
    if put.stateful || post.source.live && post.source.kind == "migration" {
        return Err(ApiError::bad_request(
            "Stateful instances are not supported by this server",
        ));
    }
    if !post.instance_type.is_empty() {
        return Err(ApiError::bad_request(format!(
            "Unknown instance type {:?}",
            post.instance_type
        )));
    }
    let content = content::find(daemon, project, &post.source)?;
    let kind = match (&content, post.kind.as_str()) {
        (Content::Copy { source, .. }, "") => source.kind,
        (Content::Copy { source, .. }, word) if validate::kind(word)? != source.kind => {
            return Err(ApiError::bad_request(
                "Instance type should not be specified or should match source type",
            ));
        }
        (Content::Image(image), "") if image.kind == "virtual-machine" => InstanceType::VirtualMachine,
        (Content::Image(image), word)
            if image.kind == "virtual-machine" && validate::kind(word)? == InstanceType::Container =>
        {
            return Err(ApiError::bad_request(
                "Requested image's type 'virtual-machine' doesn't match instance type 'container'",
            ));
        }
        (_, word) => validate::kind(word)?,
    };
    validate::vm_can_run(daemon, kind)?;
    let (mut config, own_devices) = match &content {
        Content::Copy { source, .. } => inherited(source, put.config, put.devices),
        _ => (put.config, put.devices),
    };
    let profiles = put.profiles.unwrap_or_else(|| match &content {
        Content::Image(image) if !image.profiles.is_empty() => image.profiles.clone(),
        Content::Copy { source, .. } => source.profiles.clone(),
        _ => vec!["default".to_owned()],
    });
    if let Content::Image(image) = &content {
        for (key, value) in &image.properties {
            config.insert(format!("image.{key}"), value.clone());
        }
        config.insert("volatile.base_image".to_owned(), image.fingerprint.clone());
    }
    let checked = validate::instance(daemon, project, kind, &config, &own_devices, &profiles)?;
    let architecture = match (&content, put.architecture) {
        (_, own) if !own.is_empty() => own,
        (Content::Image(image), _) if !image.architecture.is_empty() => image.architecture.clone(),
        (Content::Copy { source, .. }, _) => source.architecture.clone(),
        _ => daemon.server.architecture.clone(),
    };
    if architecture != daemon.server.architecture {
        return Err(ApiError::bad_request(format!(
            "Requested architecture isn't supported by this host: {architecture}"
        )));
    }
    let mut record = InstanceRecord {
        name,
        project: project.to_owned(),
        kind,
        architecture,
        config,
        devices: own_devices,
        profiles,
        ephemeral: put.ephemeral,
        description: put.description,
        created_at: Timestamp::now(),
        last_used_at: Timestamp::unix_epoch(),
        pool: checked.devices.root.pool.clone(),
        phase: Phase::Creating,
    };
    give_identity(&mut record, &checked.devices.nics);
    let occasion = if matches!(content, Content::Copy { .. }) {
        "copy"
    } else {
        "create"
    };
    record.set_volatile("apply_template", Some(occasion.to_owned()));
    Ok(NewInstance {
        record,
        content,
        root: checked.devices.root,
        start: post.start,
    })
}

/// A copy takes what the request does not say from its source, but not what makes an instance itself.
fn inherited(
    source: &InstanceRecord,
    config: Map,
    devices: BTreeMap<String, Map>,
) -> (Map, BTreeMap<String, Map>) {
    let mut merged = source.config.clone();
    merged.extend(config);
    merged.retain(|key, _| !key.starts_with("volatile.") || key == "volatile.base_image");
    let mut all = source.devices.clone();
    all.extend(devices);
    (merged, all)
}

/// What tells this instance from every other one.
fn give_identity(record: &mut InstanceRecord, nics: &[super::devices::Nic]) {
    let uuid = uuid::Uuid::new_v4().to_string();
    record
        .config
        .retain(|key, _| !key.starts_with("volatile.") || key == "volatile.base_image");
    record.set_volatile("uuid.generation", Some(uuid.clone()));
    record.set_volatile("uuid", Some(uuid));
    record.set_volatile("cloud-init.instance-id", Some(uuid::Uuid::new_v4().to_string()));
    if !record.is_vm() {
        record.set_volatile("idmap.base", Some("0".to_owned()));
        record.set_volatile("idmap.next", Some(ids::volatile_map(None)));
        record.set_volatile("last_state.idmap", Some("[]".to_owned()));
    }
    for nic in nics {
        if nic.hwaddr.is_none() {
            let hwaddr = ports::hwaddr(record, nic).to_string();
            record.set_volatile(&format!("{}.hwaddr", nic.device), Some(hwaddr));
        }
    }
}

/// Makes an instance, and starts it if that was asked for. A failure leaves nothing behind, except that an instance whose
/// start fails stays, as in Incus.
pub async fn create(
    daemon: &Arc<Daemon>,
    new: NewInstance,
    who: &Requestor,
    context: &OperationContext,
) -> Result<Option<Value>, ApiError> {
    let key = (new.record.project.clone(), new.record.name.clone());
    let lock = daemon.instances.locks.take(&key, "create")?;
    crash::point(Step::CreateBegun);
    write_new(daemon, &new.record)?;
    crash::point(Step::CreateRecorded);
    if let Err(error) = fill(daemon, &new, context).await {
        if let Err(second) = delete::delete(daemon, &lock).await {
            tracing::warn!(instance = key.1, error = %second, "a half-made instance is not all gone; the next start tries again");
        }
        return Err(error.context("Failed creating instance from its source"));
    }
    record::update(&*daemon.store, &key.0, &key.1, |record| {
        record.phase = Phase::Ready;
        Ok(())
    })?;
    crash::point(Step::CreateReady);
    let told = json!({
        "location": api::LOCATION_NONE,
        "storage-pool": new.record.pool,
        "type": new.record.kind.as_str(),
    });
    events::tell(daemon, &new.record, "instance-created", Some(told), who);
    touch_image(daemon, &new);
    if new.start {
        start_new(daemon, &lock, &new.record, who).await?;
    }
    Ok(None)
}

async fn start_new(
    daemon: &Arc<Daemon>,
    lock: &InstanceLock,
    record: &InstanceRecord,
    who: &Requestor,
) -> Result<(), ApiError> {
    lock.turn_into("start");
    start::start(daemon, lock).await?;
    events::tell(daemon, record, "instance-started", None, who);
    Ok(())
}

/// The record of an instance, if nobody has the name.
fn write_new(daemon: &Arc<Daemon>, record: &InstanceRecord) -> Result<(), ApiError> {
    match store::put_as(&*daemon.store, &record.key(), record, Revision::Absent) {
        Ok(_) => Ok(()),
        Err(StoreError::Conflict { .. }) => Err(ApiError::conflict(format!(
            "Failed creating instance record: Instance {:?} already exists",
            record.name
        ))),
        Err(error) => Err(error.into()),
    }
}

async fn fill(daemon: &Arc<Daemon>, new: &NewInstance, context: &OperationContext) -> Result<(), ApiError> {
    let pool = daemon.pools.get(&new.record.pool)?;
    match &new.content {
        Content::Image(image) => {
            fill_from_image(
                daemon,
                &pool,
                &new.record,
                &image.fingerprint,
                new.root.size,
                Some(context),
            )
            .await?;
        }
        Content::Empty => fill_empty(&pool, &new.record, new.root.size).await?,
        Content::Copy {
            source,
            snapshot,
            history,
        } => {
            copy(daemon, &pool, new, source, snapshot.as_deref()).await?;
            copy_history(daemon, &pool, new, source, history).await?;
        }
    }
    crash::point(Step::CreateVolumeMade);
    Ok(())
}

/// Makes an instance's volume from an image.
pub async fn fill_from_image(
    daemon: &Arc<Daemon>,
    pool: &Arc<Pool>,
    record: &InstanceRecord,
    fingerprint: &str,
    size: Option<u64>,
    context: Option<&OperationContext>,
) -> Result<(), ApiError> {
    let content = if record.is_vm() {
        ContentType::Block
    } else {
        ContentType::Filesystem
    };
    let source = image_volume::ensure(daemon, pool, fingerprint, content, context).await?;
    crash::point(Step::CreateImageCached);
    let (pool, target) = (Arc::clone(pool), record.volume());
    let size = if record.is_vm() {
        Some(size.unwrap_or(DEFAULT_VM_DISK))
    } else {
        size
    };
    blocking(move || pool.copy_volume(&source, &target, size).map_err(ApiError::from)).await
}

/// Makes an instance's volume with nothing in it.
pub async fn fill_empty(
    pool: &Arc<Pool>,
    record: &InstanceRecord,
    size: Option<u64>,
) -> Result<(), ApiError> {
    let (pool, target, is_vm) = (Arc::clone(pool), record.volume(), record.is_vm());
    let size = if is_vm {
        Some(size.unwrap_or(DEFAULT_VM_DISK))
    } else {
        size
    };
    blocking(move || {
        let fill = &mut |path: &std::path::Path| {
            if is_vm {
                let file = std::fs::OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                file.set_len(size.unwrap_or(DEFAULT_VM_DISK))?;
            } else {
                std::fs::create_dir(path.join("rootfs"))?;
            }
            Ok(())
        };
        pool.create_volume(&target, size, fill).map_err(ApiError::from)
    })
    .await
}

async fn copy(
    daemon: &Arc<Daemon>,
    pool: &Arc<Pool>,
    new: &NewInstance,
    source: &InstanceRecord,
    snapshot: Option<&str>,
) -> Result<(), ApiError> {
    let from_pool = daemon.pools.get(&source.pool)?;
    let (from, to) = (source.volume(), new.record.volume());
    let (pool, snapshot, size) = (Arc::clone(pool), snapshot.map(str::to_owned), new.root.size);
    if snapshot.is_some() && from_pool.name() != pool.name() {
        return Err(ApiError::bad_request(
            "A snapshot can only be copied within its storage pool",
        ));
    }
    blocking(move || {
        let copied = match snapshot {
            Some(snapshot) => pool.copy_from_snapshot(&from, &snapshot, &to, size),
            None if from_pool.name() == pool.name() => pool.copy_volume(&from, &to, size),
            None => pool.copy_volume_from(&from_pool, &from, &to, size),
        };
        copied.map_err(ApiError::from)
    })
    .await
}

/// Snapshots come along with a copy within a pool.
async fn copy_history(
    daemon: &Arc<Daemon>,
    pool: &Arc<Pool>,
    new: &NewInstance,
    source: &InstanceRecord,
    history: &[SnapshotRecord],
) -> Result<(), ApiError> {
    if source.pool != new.record.pool {
        return Ok(());
    }
    for snapshot in history {
        let key = keys::snapshot(&new.record.project, &new.record.name, &snapshot.name);
        store::put_as(&*daemon.store, &key, snapshot, Revision::Any)?;
        let (pool, from, to, name) = (
            Arc::clone(pool),
            source.volume(),
            new.record.volume(),
            snapshot.name.clone(),
        );
        blocking(move || pool.copy_snapshot(&from, &name, &to).map_err(ApiError::from)).await?;
    }
    Ok(())
}

/// Records when an image was used last. Nothing depends on it.
fn touch_image(daemon: &Arc<Daemon>, new: &NewInstance) {
    let Content::Image(image) = &new.content else {
        return;
    };
    let key = keys::image(&image.project, &image.fingerprint);
    if let Ok(Some((mut image, document))) = store::get_as::<Image>(&*daemon.store, &key) {
        image.last_used_at = Timestamp::now();
        // Whoever changes the image meanwhile has something more important to say.
        let _ = store::put_as(&*daemon.store, &key, &image, Revision::Exact(document.revision()));
    }
}
