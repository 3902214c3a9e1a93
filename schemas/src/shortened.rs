// SPDX-License-Identifier: Apache-2.0
//! Hosts' words where there is room for so many only.

/// The end of a text that was cut.
const CUT: &str = "… (cut)";

/// A text of at most `max` characters, and beyond them the note if it was cut,
/// now or before. No word and no number is cut in two, unless nothing else is
/// there.
#[must_use]
pub fn shortened(text: &str, max: usize) -> String {
    // The note of an earlier cut takes no room and is not given twice.
    let words = text.strip_suffix(CUT).unwrap_or(text);
    let Some((end, _)) = words.char_indices().nth(max) else {
        return text.to_owned();
    };
    let kept = words.get(..end).unwrap_or(words);
    let last = kept.rfind(char::is_whitespace).filter(|at| *at > 0);
    let kept = last.and_then(|at| kept.get(..at)).unwrap_or(kept);
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
