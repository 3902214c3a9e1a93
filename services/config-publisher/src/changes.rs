// SPDX-License-Identifier: Apache-2.0
//! What a request changes: objects before and after, in an order in which they
//! can be carried out and taken back.

use dvs_schemas::v1::{ChangedObject, ObjectRef, Operation};
use dvs_schemas::{
    Document, Epoch, MirrorSessionDoc, ObjectKey, Policy, PolicyField, PortDoc, PortGroupDoc,
    Revision, SwitchDoc, SwitchName,
};

/// A port and where it is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The port; its host and vNIC are the present ones.
    pub document: PortDoc,
    /// The fence of its placement.
    pub epoch: Epoch,
}

/// An object as the store holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A distributed switch.
    Switch(SwitchDoc),
    /// A port group.
    PortGroup(PortGroupDoc),
    /// A DVPort.
    Port(Placed),
    /// A mirroring session.
    MirrorSession(MirrorSessionDoc),
}

impl Object {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Switch(doc) => ObjectKey::Switch(doc.name.clone()),
            Self::PortGroup(doc) => ObjectKey::PortGroup(doc.switch.clone(), doc.name.clone()),
            Self::Port(port) => ObjectKey::Port(port.document.name.clone()),
            Self::MirrorSession(doc) => {
                ObjectKey::MirrorSession(doc.switch.clone(), doc.name.clone())
            }
        }
    }

    /// The switch that it is or belongs to.
    #[must_use]
    pub fn switch(&self) -> &SwitchName {
        match self {
            Self::Switch(doc) => &doc.name,
            Self::PortGroup(doc) => &doc.switch,
            Self::Port(port) => &port.document.switch,
            Self::MirrorSession(doc) => &doc.switch,
        }
    }

    /// As users see it.
    #[must_use]
    pub fn document(&self) -> Document {
        match self {
            Self::Switch(doc) => Document::Switch(doc.clone()),
            Self::PortGroup(doc) => Document::PortGroup(doc.clone()),
            Self::Port(port) => Document::Port(port.document.clone()),
            Self::MirrorSession(doc) => Document::MirrorSession(doc.clone()),
        }
    }
}

/// One object's change.
// Most changes are updates; boxing them would cost more than the room that
// creations leave unused for the length of a request.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It comes.
    Create(Object),
    /// It is replaced.
    Update {
        /// What it is.
        before: Object,
        /// The commit that made it so.
        since: Revision,
        /// What it will be.
        after: Object,
    },
    /// It goes.
    Delete {
        /// What it is.
        before: Object,
        /// The commit that made it so.
        since: Revision,
    },
}

impl Change {
    /// What changes.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Create(object) => object.key(),
            Self::Update { after, .. } => after.key(),
            Self::Delete { before, .. } => before.key(),
        }
    }

    /// The switch concerned.
    #[must_use]
    pub fn switch(&self) -> &SwitchName {
        match self {
            Self::Create(object)
            | Self::Update { after: object, .. }
            | Self::Delete { before: object, .. } => object.switch(),
        }
    }

    /// The object that was there.
    #[must_use]
    pub fn before(&self) -> Option<&Object> {
        match self {
            Self::Create(_) => None,
            Self::Update { before, .. } | Self::Delete { before, .. } => Some(before),
        }
    }

    /// The object that will be there.
    #[must_use]
    pub fn after(&self) -> Option<&Object> {
        match self {
            Self::Create(after) | Self::Update { after, .. } => Some(after),
            Self::Delete { .. } => None,
        }
    }

    /// As the reply tells it.
    #[must_use]
    pub fn told(&self) -> ChangedObject {
        let object = ObjectRef::from(&self.key());
        let (operation, fields) = match self {
            Self::Create(_) => (Operation::Created, Vec::new()),
            Self::Update { before, after, .. } => {
                (Operation::Updated, changed_fields(before, after))
            }
            Self::Delete { .. } => (Operation::Deleted, Vec::new()),
        };
        ChangedObject {
            object,
            operation,
            fields,
        }
    }
}

/// Changes that are made together: those that create and update with what is
/// needed before what needs it, deletions the other way round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet(pub Vec<Change>);

impl ChangeSet {
    /// True if everything is so already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Paths of the fields in which two states of one object differ.
fn changed_fields(before: &Object, after: &Object) -> Vec<String> {
    let mut fields = Fields::default();
    match (before, after) {
        (Object::Switch(before), Object::Switch(after)) => fields.of_switch(before, after),
        (Object::PortGroup(before), Object::PortGroup(after)) => fields.of_group(before, after),
        (Object::Port(before), Object::Port(after)) => {
            fields.of_port(&before.document, &after.document);
        }
        (Object::MirrorSession(before), Object::MirrorSession(after)) => {
            fields.of_mirror(before, after);
        }
        // Two kinds never share a key.
        (
            Object::Switch(_) | Object::PortGroup(_) | Object::Port(_) | Object::MirrorSession(_),
            _,
        ) => {}
    }
    fields.paths
}

#[derive(Default)]
struct Fields {
    paths: Vec<String>,
}

impl Fields {
    fn note<T: PartialEq>(&mut self, path: &str, before: &T, after: &T) {
        if before != after {
            self.paths.push(path.to_owned());
        }
    }

    // Each destructures one side, so that a new field doesn't compile until it
    // is compared.

    fn of_switch(&mut self, before: &SwitchDoc, after: &SwitchDoc) {
        let SwitchDoc {
            name: _,
            hosts,
            mtu,
            uplinks,
            teaming,
            private_vlans,
            runtime,
            policy,
        } = before;
        self.note("hosts", hosts, &after.hosts);
        self.note("mtu", mtu, &after.mtu);
        self.note("uplinks", uplinks, &after.uplinks);
        self.note("teaming", teaming, &after.teaming);
        self.note("private_vlans", private_vlans, &after.private_vlans);
        self.note("runtime", runtime, &after.runtime);
        self.of_policy(policy, &after.policy);
    }

    fn of_group(&mut self, before: &PortGroupDoc, after: &PortGroupDoc) {
        let PortGroupDoc {
            name: _,
            switch: _,
            policy,
            overridable,
            binding,
        } = before;
        self.of_policy(policy, &after.policy);
        self.note("overridable", overridable, &after.overridable);
        self.note("binding", binding, &after.binding);
    }

    fn of_port(&mut self, before: &PortDoc, after: &PortDoc) {
        let PortDoc {
            name: _,
            switch: _,
            group,
            host,
            vnic,
            mac,
            policy,
        } = before;
        self.note("group", group, &after.group);
        self.note("host", host, &after.host);
        self.note("vnic", vnic, &after.vnic);
        self.note("mac", mac, &after.mac);
        self.of_policy(policy, &after.policy);
    }

    fn of_mirror(&mut self, before: &MirrorSessionDoc, after: &MirrorSessionDoc) {
        let MirrorSessionDoc {
            name: _,
            switch: _,
            source,
            destination,
        } = before;
        self.note("source", source, &after.source);
        self.note("destination", destination, &after.destination);
    }

    fn of_policy(&mut self, before: &Policy, after: &Policy) {
        let differing = PolicyField::ALL
            .into_iter()
            .filter(|field| differs(*field, before, after));
        self.paths
            .extend(differing.map(|field| format!("policy.{field}")));
    }
}

fn differs(field: PolicyField, a: &Policy, b: &Policy) -> bool {
    match field {
        PolicyField::Vlan => a.vlan != b.vlan,
        PolicyField::Promiscuous => a.security.promiscuous != b.security.promiscuous,
        PolicyField::MacChanges => a.security.mac_changes != b.security.mac_changes,
        PolicyField::ForgedTransmits => a.security.forged_transmits != b.security.forged_transmits,
        PolicyField::ReservedMulticast => {
            a.security.reserved_multicast != b.security.reserved_multicast
        }
        PolicyField::AllowedAddresses => {
            a.security.allowed_addresses != b.security.allowed_addresses
        }
        PolicyField::ShapingIngress => a.shaping.ingress != b.shaping.ingress,
        PolicyField::ShapingEgress => a.shaping.egress != b.shaping.egress,
        PolicyField::Blocked => a.blocked != b.blocked,
    }
}
