use super::*;

#[test]
fn every_day_of_the_calendar_is_counted_and_read_back() {
    let first = Date::new(1, 1, 1).unwrap().to_days();
    let last = Date::new(9999, 12, 31).unwrap().to_days();
    assert_eq!((first, last), (-719_162, 2_932_896));
    let mut before: Option<Date> = None;
    for days in first..=last {
        let date = Date::from_days(days).unwrap();
        assert_eq!(date.to_days(), days, "{date}");
        assert!(before.is_none_or(|before| before < date), "{date}");
        before = Some(date);
    }
    assert_eq!(Date::from_days(first - 1), None);
    assert_eq!(Date::from_days(last + 1), None);
}

#[test]
fn times_are_written_with_six_digits_and_read_in_every_form_python_has() {
    let at: DateTime = "2024-01-02T03:04:05.678901".parse().unwrap();
    for same in [
        "2024-01-02 03:04:05.678901",
        "2024-01-02T03:04:05.678901Z",
        "2024-01-02T03:04:05.678901+00:00",
        "2024-01-02T04:34:05.678901+0130",
        "2024-01-01T22:04:05.678901-05",
        "2024-01-02T03:04:05.678901999",
    ] {
        assert_eq!(same.parse(), Ok(at), "{same}");
    }
    let whole: DateTime = "2024-01-02T03:04".parse().unwrap();
    assert_eq!(whole.to_string(), "2024-01-02T03:04:00.000000");
    let tenth: DateTime = "2024-01-02T03:04:05.5".parse().unwrap();
    assert_eq!(tenth.to_string(), "2024-01-02T03:04:05.500000");
}

#[test]
fn what_is_no_time_is_refused() {
    for bad in [
        "",
        "2024-01-02",
        "2024-1-2T03:04:05",
        "2024-02-30T00:00:00",
        "2024-01-02T24:00:00",
        "2024-01-02T03:60:00",
        "2024-01-02T03:04:60",
        "2024-01-02T03:04:05.",
        "2024-01-02T03:04:05.1234567890",
        "2024-01-02T03:04:05 ",
        "2024-01-02T03:04:05+25:00",
        "2024-01-02T03:04:05+1",
        "0000-01-01T00:00:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "²024-01-02T03:04:05",
    ] {
        assert!(bad.parse::<DateTime>().is_err(), "{bad}");
    }
    assert!("2024-01-02T00:00".parse::<Date>().is_err());
}

#[test]
fn system_times_are_cut_to_the_microsecond_on_both_sides_of_1970() {
    let after = UNIX_EPOCH + Duration::from_nanos(1_999);
    assert_eq!(DateTime::try_from(after).unwrap().unix_micros(), 1);
    let before = UNIX_EPOCH - Duration::from_nanos(1_001);
    assert_eq!(DateTime::try_from(before).unwrap().unix_micros(), -2);
    let far = UNIX_EPOCH + Duration::from_secs(300_000_000_000);
    assert!(DateTime::try_from(far).is_err());
    for micros in [-1, 0, 1, 1_704_164_645_678_901, -62_135_596_800_000_000] {
        let at = DateTime::from_unix_micros(micros).unwrap();
        assert_eq!(DateTime::try_from(SystemTime::from(at)), Ok(at));
    }
}
