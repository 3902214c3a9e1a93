// SPDX-License-Identifier: Apache-2.0
//! The tables.

use dvs_ledger::{LedgerSpec, Table};

/// What is known of the ports, by name.
pub(crate) const PORTS: Table = Table("ports");
/// How far the hosts' events came, by host.
pub(crate) const HOSTS: Table = Table("hosts");
/// What is wrong on hosts, by host.
pub(crate) const CONDITIONS: Table = Table("conditions");
/// What was told lately of any port, by its number, big-endian.
pub(crate) const HISTORY: Table = Table("history");

/// The ledger of this service.
pub const SPEC: LedgerSpec = LedgerSpec {
    service: "runtime-collector",
    version: 1,
    tables: &[PORTS, HOSTS, CONDITIONS, HISTORY],
};
