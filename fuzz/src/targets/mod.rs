//! The targets.

mod address;
mod certificate;
mod cm;
mod cm_mad;
mod context;
mod control;
mod datagram;
mod esp;
mod files;
mod fragments;
mod keys;
mod manifests;
mod memory;
mod packet;
mod pair_message;
mod pairs;
mod queue_pair;
mod record;
mod region;
mod rsocket;
mod sealed_packets;
mod slots;

use crate::Target;

pub(crate) const ALL: &[Target] = &[
    Target { name: "packet", about: "RoCE headers: read and written", memory: 4 << 10, try_out: packet::run },
    Target {
        name: "datagram",
        about: "a UDP payload with its ICRC",
        memory: 4 << 10,
        try_out: datagram::run,
    },
    Target {
        name: "esp",
        about: "sealed datagrams, tampered with, replayed, and authentic ones with anything inside",
        memory: 64 << 10,
        try_out: esp::run,
    },
    Target {
        name: "sealed_packets",
        about: "a device's receive path behind ESP: authentic packets with anything inside, and others",
        memory: 2 << 20,
        try_out: sealed_packets::run,
    },
    Target {
        name: "cm_mad",
        about: "messages of connection management: read and written",
        memory: 4 << 10,
        try_out: cm_mad::run,
    },
    Target {
        name: "cm",
        about: "a communication manager: any messages and any calls",
        memory: 128 << 10,
        try_out: cm::run,
    },
    Target {
        name: "rsocket",
        about: "a connected rsocket: any messages and any calls",
        memory: 64 << 10,
        try_out: rsocket::run,
    },
    Target {
        name: "pair_message",
        about: "messages of agents to each other: read and written",
        memory: 4 << 10,
        try_out: pair_message::run,
    },
    Target {
        name: "pairs",
        about: "messages between a sealed process and its agent: read and written",
        memory: 4 << 10,
        try_out: pairs::run,
    },
    Target {
        name: "queue_pair",
        about: "packets for a queue pair, in any order and state",
        memory: 64 << 10,
        try_out: queue_pair::run,
    },
    Target {
        name: "memory",
        about: "keys and addresses of registered memory, from the peers of two queue pairs",
        memory: 64 << 10,
        try_out: memory::run,
    },
    Target {
        name: "record",
        about: "records of the control protocol: read and written",
        memory: 4 << 10,
        try_out: record::run,
    },
    Target {
        name: "files",
        about: "messages of the protocol for files, read and written, and the paths in them",
        memory: 512 << 10,
        try_out: files::run,
    },
    Target {
        name: "control",
        about: "a control channel's bytes, coming in any pieces",
        memory: 64 << 10,
        try_out: control::run,
    },
    Target {
        name: "region",
        about: "a region as a server describes it, and the slots made of it",
        memory: 4 << 10,
        try_out: region::run,
    },
    Target {
        name: "context",
        about: "what a session's keys depend on, as it is encoded",
        memory: 32 << 10,
        try_out: context::run,
    },
    Target {
        name: "fragments",
        about: "sealed messages, tampered with on their way",
        memory: 256 << 10,
        try_out: fragments::run,
    },
    Target {
        name: "slots",
        about: "sealed memory, tampered with where it lies",
        memory: 256 << 10,
        try_out: slots::run,
    },
    Target {
        name: "manifests",
        about: "what a peer tells of its writes: read and written",
        memory: 64 << 10,
        try_out: manifests::run,
    },
    Target {
        name: "certificate",
        about: "a certificate that a peer shows",
        memory: 64 << 10,
        try_out: certificate::run,
    },
    Target {
        name: "address",
        about: "GIDs, names and fingerprints: read and written",
        memory: 16 << 10,
        try_out: address::run,
    },
];
