// SPDX-License-Identifier: Apache-2.0
//! Agents that say hello: which one is the host's, and what the others are
//! told. What is said in any session but the host's present one counts for
//! nothing.

use dvs_schemas::v1::{Heartbeat, Hello};
use dvs_schemas::{HostName, Problem, ProblemCode, SessionId, Timestamp};

use super::{Out, Publisher, answer};
use crate::events::{Effect, Reply, ReplyToken};
use crate::fleet::{Arrival, Host};

/// Hellos of one host that wait for the word of the agent that is there. One
/// waits for a second, and is repeated no sooner.
const WAITING: usize = 8;

impl Publisher {
    /// An agent says hello. If another one is the host's, that one is asked
    /// whether it is there, and the answer waits.
    pub(super) fn arrive(
        &mut self,
        now: Timestamp,
        to: ReplyToken,
        hello: Hello,
        out: &mut Out,
    ) -> Result<Option<Reply>, Problem> {
        match self.fleet.arrival(now, &hello) {
            Arrival::Welcome(session) => {
                let agent = Some(hello.agent);
                let reply = self.welcome(now, &hello, agent, session, out);
                Ok(Some(Reply::Hello(reply)))
            }
            Arrival::Taken(session) => {
                let host = hello.host.clone();
                let waiting = self.arriving.entry(host.clone()).or_default();
                if waiting.len() == WAITING {
                    let message = format!("{WAITING} agents that call themselves {host} wait");
                    return Err(Problem::new(ProblemCode::Unavailable, message));
                }
                if waiting.is_empty() {
                    out.effect(Effect::Identify { host, session });
                }
                waiting.push((to, hello));
                Ok(None)
            }
            Arrival::Unbelievable(session) => {
                let message = format!("no publisher can have begun session {session}");
                Err(Problem::new(ProblemCode::Invalid, message)
                    .at("session")
                    .allow("an agent that is started anew, and names no session"))
            }
        }
    }

    /// The agent that is in this session is there, or is not; the error says why
    /// it could not be asked.
    pub(super) fn identified(
        &mut self,
        now: Timestamp,
        host: &HostName,
        session: SessionId,
        is_there: &Result<bool, String>,
        out: &mut Out,
    ) {
        let present = self.fleet.get(host).map(Host::session);
        for (to, hello) in self.arriving.remove(host).unwrap_or_default() {
            let result = match is_there {
                Ok(true) if present == Some(session) => Err(self.turn_away(now, &hello)),
                Ok(_) => {
                    self.fleet.end(host, session);
                    self.arrive(now, to, hello, out)
                }
                Err(why) => {
                    let message =
                        format!("whether the agent of {host} is there is not known: {why}");
                    Err(Problem::new(ProblemCode::Unavailable, message).allow("the same again"))
                }
            };
            match result {
                Ok(Some(reply)) => answer(out, to, Ok(reply)),
                Ok(None) => {} // waits again, for another one
                Err(problem) => answer(out, to, Err(problem)),
            }
        }
    }

    /// Whether a heartbeat is of the host's agent. Who sent one of a session
    /// that is over is told.
    pub(super) fn counts(&self, heartbeat: &Heartbeat, out: &mut Out) -> bool {
        let host = &heartbeat.host;
        if !self.fleet.believes(host, heartbeat.session) {
            let session = heartbeat.session;
            tracing::debug!(%host, %session, "a heartbeat of a session that can't be");
            return false;
        }
        let present = self.fleet.get(host).map(Host::session);
        let Some(session) = present.filter(|present| heartbeat.session < *present) else {
            return true;
        };
        let host = host.clone();
        out.effect(Effect::Identify { host, session });
        false
    }

    /// Whether a request of a host is of its agent.
    ///
    /// # Errors
    /// It is of another one, or of a session that is over.
    pub(super) fn is_of_agent(&self, host: &HostName, session: SessionId) -> Result<(), Problem> {
        match self.fleet.get(host) {
            Some(known) if known.session() != session => Err(self.namesake(host)),
            Some(_) | None => Ok(()),
        }
    }

    /// Refuses an agent, since another one is the host's and is there.
    fn turn_away(&mut self, now: Timestamp, hello: &Hello) -> Problem {
        let problem = self.namesake(&hello.host);
        if self.fleet.refuse(now, hello) {
            let (host, node, agent) = (&hello.host, &hello.node, hello.agent);
            let address = hello.address.map(tracing::field::display);
            tracing::warn!(
                %host, node, address, %agent, %problem,
                "an agent is refused: another one of its name is there"
            );
        }
        problem
    }

    fn namesake(&self, host: &HostName) -> Problem {
        let mut message = format!("another agent is host {host}");
        if let Some(Host { entry, .. }) = self.fleet.get(host) {
            let node = Some(&entry.node).filter(|node| !node.is_empty());
            let node = node.map(|node| format!(" on {node}"));
            let address = entry.address.map(|address| format!(" at {address}"));
            let (node, address) = (node.unwrap_or_default(), address.unwrap_or_default());
            message.push_str(&format!(
                ": the one{node}{address}, in session {}",
                entry.session
            ));
        }
        Problem::new(ProblemCode::Namesake, message).allow(
            "another --host for this agent; or that one stopped, and this one takes over by itself",
        )
    }
}
