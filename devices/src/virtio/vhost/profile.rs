//! What is special to each kind of device that a vhost-user back end can serve: its queues, which of the back end's
//! features the driver is shown, and who has the configuration space.

use crate::virtio::device::DeviceType;
use crate::virtio::net::MacAddress;
use serde::{Deserialize, Serialize};
use virtio_bindings::{virtio_blk, virtio_net};

/// Entries of each queue.
const QUEUE_SIZE: u16 = 256;
/// Bytes of a file system's tag (virtio 1.3 §5.11.4).
pub const TAG_LEN: usize = 36;
/// Bytes of a block device's configuration space that its features need (§5.2.4): up to write zeroes.
const BLOCK_CONFIG_LEN: u32 = 60;
/// Where that space has the number of queues.
const BLOCK_QUEUES_OFFSET: usize = 34;
/// The link is up (§5.1.4).
const NET_LINK_UP: u16 = 1;

/// A kind of device, and what it needs to be told by the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "device", rename_all = "kebab-case")]
pub enum Profile {
    /// A disk. The back end knows all about it.
    Block {
        /// Number of queues.
        queues: u16,
    },
    /// A network card with one pair of queues.
    Net {
        /// The card's address.
        mac: MacAddress,
        /// Largest packet without Ethernet header.
        mtu: u16,
    },
    /// A shared file system.
    FileSystem {
        /// The name by which the guest mounts it; 1 to 36 bytes.
        tag: String,
    },
}

/// The bits with these numbers.
fn bits(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |bits, number| bits | 1 << number)
}

impl Profile {
    /// The device's id.
    pub fn device_type(&self) -> DeviceType {
        match self {
            Self::Block { .. } => DeviceType::Block,
            Self::Net { .. } => DeviceType::Net,
            Self::FileSystem { .. } => DeviceType::FileSystem,
        }
    }

    /// The greatest size of each queue.
    pub fn queue_sizes(&self) -> Vec<u16> {
        let count = match self {
            Self::Block { queues } => usize::from(*queues),
            Self::Net { .. } => 2,
            // One for what must not wait, one for requests (§5.11.2).
            Self::FileSystem { .. } => 2,
        };
        vec![QUEUE_SIZE; count]
    }

    /// Whether it has more queues than every back end.
    pub fn is_multi_queue(&self) -> bool {
        matches!(self, Self::Block { queues } if *queues > 1)
    }

    /// Features that are the back end's if it has them: all that concern what is in the queues.
    pub fn remote_features(&self) -> u64 {
        match self {
            Self::Block { .. } => bits(&[
                virtio_blk::VIRTIO_BLK_F_SIZE_MAX,
                virtio_blk::VIRTIO_BLK_F_SEG_MAX,
                virtio_blk::VIRTIO_BLK_F_GEOMETRY,
                virtio_blk::VIRTIO_BLK_F_RO,
                virtio_blk::VIRTIO_BLK_F_BLK_SIZE,
                virtio_blk::VIRTIO_BLK_F_FLUSH,
                virtio_blk::VIRTIO_BLK_F_TOPOLOGY,
                virtio_blk::VIRTIO_BLK_F_MQ,
                virtio_blk::VIRTIO_BLK_F_DISCARD,
                virtio_blk::VIRTIO_BLK_F_WRITE_ZEROES,
            ]),
            Self::Net { .. } => bits(&[
                virtio_net::VIRTIO_NET_F_CSUM,
                virtio_net::VIRTIO_NET_F_GUEST_CSUM,
                virtio_net::VIRTIO_NET_F_GUEST_TSO4,
                virtio_net::VIRTIO_NET_F_GUEST_TSO6,
                virtio_net::VIRTIO_NET_F_GUEST_ECN,
                virtio_net::VIRTIO_NET_F_GUEST_UFO,
                virtio_net::VIRTIO_NET_F_HOST_TSO4,
                virtio_net::VIRTIO_NET_F_HOST_TSO6,
                virtio_net::VIRTIO_NET_F_HOST_ECN,
                virtio_net::VIRTIO_NET_F_HOST_UFO,
                virtio_net::VIRTIO_NET_F_MRG_RXBUF,
                virtio_net::VIRTIO_NET_F_GUEST_USO4,
                virtio_net::VIRTIO_NET_F_GUEST_USO6,
                virtio_net::VIRTIO_NET_F_HOST_USO,
            ]),
            Self::FileSystem { .. } => 0,
        }
    }

    /// Features that this process sees to, whatever the back end has.
    pub fn own_features(&self) -> u64 {
        match self {
            Self::Net { .. } => bits(&[
                virtio_net::VIRTIO_NET_F_MAC,
                virtio_net::VIRTIO_NET_F_STATUS,
                virtio_net::VIRTIO_NET_F_MTU,
            ]),
            Self::Block { .. } | Self::FileSystem { .. } => 0,
        }
    }

    /// How many bytes of the configuration space to ask the back end for.
    pub fn remote_config_len(&self) -> u32 {
        match self {
            Self::Block { .. } => BLOCK_CONFIG_LEN,
            Self::Net { .. } | Self::FileSystem { .. } => 0,
        }
    }

    /// The configuration space as the driver sees it, given what the back end said.
    pub fn config_space(&self, remote: &[u8]) -> Vec<u8> {
        match self {
            Self::Block { queues } => {
                let mut space = remote.to_vec();
                let field = space.iter_mut().skip(BLOCK_QUEUES_OFFSET);
                field.zip(queues.to_le_bytes()).for_each(|(to, from)| *to = from);
                space
            }
            Self::Net { mac, mtu } => {
                let words = [NET_LINK_UP, 1, *mtu].map(u16::to_le_bytes);
                [&mac.0[..], words.as_flattened()].concat()
            }
            Self::FileSystem { tag } => {
                let mut space = tag.clone().into_bytes();
                space.resize(TAG_LEN, 0);
                // Queues for requests, besides the one for what must not wait.
                space.extend(1u32.to_le_bytes());
                space
            }
        }
    }
}
