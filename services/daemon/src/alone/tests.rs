// SPDX-License-Identifier: Apache-2.0
use super::*;

fn card(stage: Stage, since: u64, id: &str) -> Card {
    Card {
        stage,
        since,
        id: id.to_owned(),
        node: String::new(),
        store: String::new(),
    }
}

#[test]
fn who_is_found_is_named_with_its_store_beside_this_one_s() {
    let mut me = Instance::new("retry", "mine");
    me.card.since = 0;
    let found = |store: &str| {
        let other = Card {
            node: "rack-1".to_owned(),
            store: store.to_owned(),
            ..card(Stage::Serving, 0, "other")
        };
        me.taken(other).to_string()
    };
    let named = "another retry serves on this bus: on node rack-1, since 1970-01-01T00:00:00Z, ";
    let way_on = "; stop it, or connect this one to a bus of its own";
    assert_eq!(
        found("other"),
        format!("{named}with store other, while this one has store mine{way_on}")
    );
    assert_eq!(
        found("mine"),
        format!("{named}with the same store mine{way_on}")
    );
}

#[test]
fn an_instance_serves_once_it_hears_itself_and_nobody_else() {
    let me = card(Stage::Starting, 5, "me");
    let later = card(Stage::Starting, 6, "later");
    let earlier = card(Stage::Starting, 4, "earlier");
    let serving = card(Stage::Serving, 9, "serving");
    let cases = [
        (vec![], Verdict::Unheard),
        (vec![me.clone()], Verdict::Alone),
        (
            vec![later.clone(), me.clone()],
            Verdict::Precedes(later.clone()),
        ),
        (
            vec![me.clone(), later.clone(), earlier.clone()],
            Verdict::Yields(earlier.clone()),
        ),
        (
            vec![earlier, serving.clone(), me.clone()],
            Verdict::Yields(serving),
        ),
    ];
    for (answers, expected) in cases {
        assert_eq!(verdict(&me, answers.clone()), expected, "{answers:?}");
    }
}
