// SPDX-License-Identifier: Apache-2.0
//! What hosts say is wrong with them.

use dvs_ledger::Writes;
use dvs_schemas::v1::{ConditionList, EventAck, HostConditions, V1};
use dvs_schemas::{HostName, Timestamp};

use super::Collector;
use super::doubting::Part;
use crate::conditions::Said;
use crate::hosts::{Place, Wanted};

impl Collector {
    /// A host says what is wrong with it now.
    pub(super) fn conditions_event(
        &mut self,
        heard: Timestamp,
        event: HostConditions,
        writes: &mut Writes,
    ) -> EventAck {
        let HostConditions {
            v: V1,
            host,
            session,
            seq,
            at: _,
            list,
        } = event;
        match self.place(&host, session, seq, Part::Rest, writes) {
            Place::New => {
                let said = Said {
                    session,
                    seq,
                    heard,
                    list,
                };
                self.conditions.say(&host, said, writes);
            }
            // Either it is in the store, or a snapshot says what became of it.
            Place::Covered | Place::Past => {}
        }
        EventAck { v: V1, seq }
    }

    /// A snapshot says what is wrong with its host, as if the newest event had.
    pub(super) fn conditions_of_snapshot(
        &mut self,
        heard: Timestamp,
        host: &HostName,
        wanted: Wanted,
        list: ConditionList,
        writes: &mut Writes,
    ) {
        let Wanted { session, seq } = wanted;
        let said = Said {
            session,
            seq,
            heard,
            list,
        };
        self.conditions.say(host, said, writes);
    }
}
