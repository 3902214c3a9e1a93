// SPDX-License-Identifier: Apache-2.0
//! Hosts' words where there is room for so many only.

/// What a text that was cut ends with.
const CUT: &str = "… (cut)";

/// A text of at most `max` characters and the note that it was cut. No word and
/// no number is cut in two, unless nothing else is there.
#[must_use]
pub fn shortened(text: &str, max: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(max) else {
        return text.to_owned();
    };
    let kept = text.get(..end).unwrap_or(text);
    // A text that was cut before is not noted twice.
    let kept = kept.split(CUT).next().unwrap_or(kept);
    let words = kept.rfind(char::is_whitespace).filter(|at| *at > 0);
    let kept = words.and_then(|at| kept.get(..at)).unwrap_or(kept);
    format!("{}{CUT}", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::{CUT, shortened};

    #[test]
    fn a_text_is_cut_between_words_and_says_so() {
        let text = "the VLAN 1234 is taken";
        assert_eq!(shortened(text, 22), text);
        assert_eq!(shortened(text, 12), format!("the VLAN{CUT}"));
        assert_eq!(shortened("12345678", 3), format!("123{CUT}"));
    }

    #[test]
    fn what_was_cut_before_fits_in_as_much_room_again() {
        let words = "wörd ".repeat(200);
        let once = shortened(&words, 240);
        assert_eq!(shortened(&once, 500), once);
        assert_eq!(shortened(&once, 245).matches('…').count(), 1);
    }
}
