use proptest::prelude::*;

use super::*;
use crate::engine::episode::TransitionKind;
use crate::rules::Severity;
use crate::test_support;
use crate::worked_cases::fields::shown;

fn map(map: Value) -> FieldMap {
    FieldMap::parse(&map.to_string()).unwrap()
}

#[test]
fn a_map_that_could_never_fill_its_template_is_refused_by_the_field() {
    for (map, reason) in [
        (json!([]), "a map must be a JSON object"),
        (json!({}), "a map must show patient or device"),
        (
            json!({"thing1": "event", "phrase2": "patient", "character_string3": "patient"}),
            "a map must show patient or device",
        ),
        (json!({"thing1": "name"}), "thing1: unknown variant `name`, expected one of `patient`"),
        (json!({"time1": "patient"}), "time1: the type can never hold"),
        (json!({"number1": "event"}), "number1: the type can never hold"),
        (json!({"character_string1": "level"}), "character_string1: the type can never hold"),
        (json!({"phrase1": "value"}), "phrase1: the type can never hold"),
        (json!({"const1": "state"}), "const1: the type can never hold"),
        (
            json!({"const1": {"content": "state", "words": {"opened": "字".repeat(21)}}}),
            "const1: the type cannot hold",
        ),
        (
            json!({"thing1": {"content": "patient", "words": {"opened": "a"}}}),
            "thing1: only state, level and sign have words",
        ),
        (json!({"thing1": {"content": "state", "word": {}}}), "thing1: unknown field `word`"),
        (
            json!({"number1": {"content": "level", "words": {"critical": "3"}}}),
            "number1: a number has no words",
        ),
        (json!({"number1": "=many"}), "number1: the type cannot hold \"many\""),
        (json!({"time1": "=12:00"}), "time1: the type cannot hold \"12:00\""),
        (json!({"thing1": 5}), "thing1: "),
    ] {
        let found = FieldMap::parse(&map.to_string()).unwrap_err();
        assert!(found.starts_with(reason), "{map}: {found}");
    }
    for who in [json!({"name1": "patient"}), json!({"character_string1": "device"})] {
        assert_eq!(FieldMap::parse(&who.to_string()).map(|map| map.0.len()), Ok(1), "{who}");
    }
    assert!(FieldMap::parse("{").unwrap_err().starts_with("a map must be a JSON object"));
}

#[test]
fn words_constants_and_types_make_the_values_of_every_state() {
    let map = map(json!({
        "thing1": "org",
        "const2": {"content": "level", "words": {"critical": "严重", "resolved": "恢复"}},
        "character_string3": "reading", "time4": "time", "number5": "value", "phrase6": "event",
        "thing7": "=三病区护士站", "thing8": {"content": "state", "words": {"opened": "新告警"}},
        "character_string9": {"content": "sign", "words": {"heart_rate": "HR"}},
        "keyword10": "device",
    }));
    let opened =
        Notice { since: Some("2025-09-02T11:50:00".parse().unwrap()), ..test_support::notice() };
    let expected = json!({
        "thing1": "无", "const2": "严重", "character_string3": "133>120",
        "time4": "2025年9月2日 12:00", "number5": "133", "phrase6": "心率过高",
        "thing7": "三病区护士站", "thing8": "新告警", "character_string9": "HR",
        "keyword10": "A1",
    });
    assert_eq!(shown(&map, &opened), expected);
    let over = Notice {
        transition: TransitionKind::Resolved,
        vital: Vital::NoData,
        value: Some(0.0),
        bound: None,
        ..opened.clone()
    };
    let expected = json!({
        "thing1": "无", "const2": "恢复", "character_string3": "-", "time4": "2025年9月2日 12:00",
        "number5": "0", "phrase6": "已恢复设备", "thing7": "三病区护士站", "thing8": "已恢复",
        "character_string9": "-", "keyword10": "A1",
    });
    assert_eq!(shown(&map, &over), expected);
    let silent = Notice { transition: TransitionKind::Opened, value: Some(3_720.0), ..over };
    assert_eq!(shown(&map, &silent)["character_string3"], "3720s");
    assert_eq!(shown(&map, &silent)["const2"], "严重");
    let eased = Notice {
        eased: true,
        transition: TransitionKind::Escalated,
        severity: Severity::Minor,
        ..opened
    };
    assert_eq!(shown(&map, &eased)["const2"], "", "no word was approved for it");
    assert_eq!(shown(&map, &eased)["thing8"], "缓解");
}

#[test]
fn a_refused_field_is_made_plain_first_then_all_fields() {
    let map = map(json!({"thing1": "patient", "character_string2": "reading", "time3": "time"}));
    let set = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let all = set(&["thing1", "character_string2", "time3"]);
    let none = BTreeSet::new();
    for (plain, refused, plainer) in [
        (&none, Some("thing1"), Some(set(&["thing1"]))),
        (&none, Some("thing9"), Some(all.clone())),
        (&none, None, Some(all.clone())),
        (&set(&["thing1"]), Some("thing1"), Some(all.clone())),
        (&set(&["thing1"]), Some("time3"), Some(all.clone())),
        (&all, Some("thing1"), None),
    ] {
        assert_eq!(map.plainer(plain, refused), plainer, "{plain:?} {refused:?}");
    }
    let notice =
        Notice { user: "王(小)明 3.5".into(), plain_fields: all, ..test_support::notice() };
    let expected =
        json!({"thing1": "王小明3点5", "character_string2": "-", "time3": "2025年9月2日 12:00"});
    assert_eq!(shown(&map, &notice), expected);
}

#[test]
fn all_plain_a_message_still_says_whom_it_concerns_and_when() {
    let names = ["keyword1", "keyword2", "keyword3", "keyword4"].map(str::to_owned);
    let notice = Notice { plain_fields: names.into(), ..test_support::notice() };
    let expected = json!({
        "keyword1": "A1", "keyword2": "心率过高133", "keyword3": "严重",
        "keyword4": "2025年9月2日12点00",
    });
    assert_eq!(shown(&FieldMap::default(), &notice), expected);
}

#[test]
fn a_message_of_several_alerts_says_how_many_with_every_map() {
    let beside = vec!["【低级】血氧过低 85 (<90)".to_owned()];
    let several = Notice { user: "王小明".into(), beside, ..test_support::notice() };
    let alone = Notice { beside: Vec::new(), ..several.clone() };
    let state = json!({"content": "state", "words": {"opened": "异常"}});
    for (fields, expected) in [
        (
            json!({"thing1": "patient", "thing2": "event"}),
            json!({"thing1": "王小明", "thing2": "心率过高 133 等2条"}),
        ),
        (
            json!({"thing1": "patient", "number2": "count"}),
            json!({"thing1": "王小明", "number2": "2"}),
        ),
        (
            json!({"character_string1": "device", "thing2": "patient", "const3": state}),
            json!({"character_string1": "A1", "thing2": "王小明 等2条", "const3": "异常"}),
        ),
        (
            json!({"thing1": "patient", "phrase2": "event"}),
            json!({"thing1": "王小明 等2条", "phrase2": "心率过高"}),
        ),
        (json!({"name1": "patient"}), json!({"name1": "王小明等多条"})),
        (json!({"character_string1": "device"}), json!({"character_string1": "A1+1"})),
    ] {
        let map = map(fields);
        assert_eq!(shown(&map, &several), expected);
        let alone = shown(&map, &alone);
        let counts = |text: &str| ["等", "+"].iter().any(|count| text.contains(count));
        assert!(!counts(&alone.to_string()), "{alone}");
    }
    let by_device = map(json!({"character_string1": "device"}));
    assert!(!by_device.shows_count() && FieldMap::default().shows_count());
    let plain = Notice { plain_fields: by_device.names(), ..several.clone() };
    assert_eq!(shown(&by_device, &plain), json!({"character_string1": "A1"}), "it says whom");
    let long = Notice {
        transition: TransitionKind::Notified,
        vital: Vital::PressureLow,
        delayed: true,
        repeat: true,
        ..several
    };
    let event = &shown(&FieldMap::default(), &long)["keyword2"];
    assert_eq!(event, "延迟 重复? 持续 舒张压过高… 等2条");
}

proptest! {
    #[test]
    fn whatever_the_content_every_value_fits_its_type(
        user in "(\\PC|\n|[😀-😎]){0,60}", ward in proptest::option::of("\\PC{0,40}"),
        value in proptest::option::of(-1e9..1e9), plain: bool,
        digest_of in proptest::option::of(0usize..10_000), others in 0usize..2_000,
    ) {
        let map = map(json!({
            "thing1": "patient", "name2": "patient", "phrase3": "org", "character_string4": "text",
            "number5": "value", "const6": {"content": "sign", "words": {"heart_rate": "心率"}},
            "keyword7": "event", "thing8": "reading",
        }));
        let names: BTreeSet<String> = map.0.iter().map(|field| field.name.clone()).collect();
        let plain_fields = if plain { names } else { BTreeSet::new() };
        let (text, beside) = (user.clone(), vec![String::new(); others]);
        let notice = Notice {
            user, ward, value, text, digest_of, plain_fields, beside, ..test_support::notice()
        };
        for (name, value) in shown(&map, &notice).as_object().unwrap() {
            let value = value.as_str().unwrap();
            let count = value.chars().count();
            let fits = match name.as_str() {
                "name2" => (1..=10).contains(&count),
                "phrase3" => (1..=5).contains(&count),
                "character_string4" => {
                    (1..=32).contains(&count) && value.bytes().all(|one| one.is_ascii_graphic())
                }
                "number5" => value.parse::<f64>().is_ok(),
                "const6" => value.is_empty() || value == "心率",
                _ => (1..=20).contains(&count) && !value.contains(char::is_control),
            };
            prop_assert!(fits, "{name}: {value:?}");
        }
    }
}
