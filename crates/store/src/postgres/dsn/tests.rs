//! Connection strings by the table.

use super::*;

fn parse(text: &str) -> Dsn {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn tcp(name: &str, port: u16) -> Host {
    Host::Tcp { name: name.into(), address: None, port }
}

fn unix(folder: &str, port: u16) -> Host {
    Host::Unix { folder: folder.into(), port }
}

#[test]
fn strings_that_people_have_are_read_as_they_mean() {
    let direct = "postgresql://postgres:pass@db.abcdefgh.supabase.co:5432/postgres";
    let session = "postgresql://postgres.abcdefgh:pass@aws-0-eu-central-1.pooler.supabase.com:5432/postgres";
    let transaction =
        "postgres://postgres.abcdefgh:pass@aws-0-eu-central-1.pooler.supabase.com:6543/postgres";
    // String, hosts, user, database, TLS of the first host, pooler.
    type Row = (&'static str, Vec<Host>, Option<&'static str>, Option<&'static str>, SslMode, Option<bool>);
    let pooler_host = "aws-0-eu-central-1.pooler.supabase.com";
    let rows: &[Row] = &[
        (
            direct,
            vec![tcp("db.abcdefgh.supabase.co", 5432)],
            Some("postgres"),
            Some("postgres"),
            SslMode::Require,
            None,
        ),
        (
            session,
            vec![tcp(pooler_host, 5432)],
            Some("postgres.abcdefgh"),
            Some("postgres"),
            SslMode::Require,
            None,
        ),
        (
            transaction,
            vec![tcp(pooler_host, 6543)],
            Some("postgres.abcdefgh"),
            Some("postgres"),
            SslMode::Require,
            Some(true),
        ),
        (
            "postgres://u:p@127.0.0.1/d?pgbouncer=true",
            vec![tcp("127.0.0.1", 5432)],
            Some("u"),
            Some("d"),
            SslMode::Prefer,
            Some(true),
        ),
        (
            "postgres://u@localhost:6543/d?pgbouncer=false",
            vec![tcp("localhost", 6543)],
            Some("u"),
            Some("d"),
            SslMode::Prefer,
            Some(false),
        ),
        ("postgres://u@[::1]:5433/d", vec![tcp("::1", 5433)], Some("u"), Some("d"), SslMode::Prefer, None),
        (
            "postgres://u@[2001:db8::1]/d?sslmode=prefer",
            vec![tcp("2001:db8::1", 5432)],
            Some("u"),
            Some("d"),
            SslMode::Prefer,
            None,
        ),
        (
            "postgres://u@a,b:5433,[::1]:5434/d?target_session_attrs=read-write",
            vec![tcp("a", 5432), tcp("b", 5433), tcp("::1", 5434)],
            Some("u"),
            Some("d"),
            SslMode::Require,
            None,
        ),
        (
            "postgres://u@%2Frun%2Fpg/d?sslmode=require",
            vec![unix("/run/pg", 5432)],
            Some("u"),
            Some("d"),
            SslMode::Disable,
            None,
        ),
        (
            "postgres:///d?host=/run/pg&port=5433&user=u",
            vec![unix("/run/pg", 5433)],
            Some("u"),
            Some("d"),
            SslMode::Disable,
            None,
        ),
        (
            "host=/run/pg dbname=d user=u",
            vec![unix("/run/pg", 5432)],
            Some("u"),
            Some("d"),
            SslMode::Disable,
            None,
        ),
        (
            "  host = a,b  port=1,2 dbname='a b' user='it\\'s'  ",
            vec![tcp("a", 1), tcp("b", 2)],
            Some("it's"),
            Some("a b"),
            SslMode::Require,
            None,
        ),
        ("host=a,b port=9 user=u", vec![tcp("a", 9), tcp("b", 9)], Some("u"), None, SslMode::Require, None),
        ("postgres://u@db/d?ssl=true", vec![tcp("db", 5432)], Some("u"), Some("d"), SslMode::Require, None),
        (
            "postgres://u@localhost/d?sslmode=verify-full",
            vec![tcp("localhost", 5432)],
            Some("u"),
            Some("d"),
            SslMode::VerifyFull,
            None,
        ),
        (
            "postgres://u@db/d?sslmode=require&sslrootcert=/ca.pem",
            vec![tcp("db", 5432)],
            Some("u"),
            Some("d"),
            SslMode::VerifyCa,
            None,
        ),
        (
            "postgres://u@db/d?sslrootcert=system",
            vec![tcp("db", 5432)],
            Some("u"),
            Some("d"),
            SslMode::VerifyFull,
            None,
        ),
        (
            "postgres://u@db/d?sslmode=disable&sslmode=allow",
            vec![tcp("db", 5432)],
            Some("u"),
            Some("d"),
            SslMode::Allow,
            None,
        ),
    ];
    for (text, hosts, user, dbname, ssl, pooler) in rows {
        let dsn = parse(text);
        assert!(Dsn::is_one(text), "{text}");
        assert_eq!(dsn.hosts, *hosts, "{text}");
        assert_eq!((dsn.user.as_deref(), dsn.dbname.as_deref()), (*user, *dbname), "{text}");
        assert_eq!((dsn.ssl_mode(&dsn.hosts[0]), dsn.pooler), (*ssl, *pooler), "{text}");
        assert_eq!(dsn.unknown, Vec::<String>::new(), "{text}");
    }
    for other in ["sqlite:///x", "nudge.db", "/var/lib/nudge.db", "mysql://u@h/d", "", "?host=a"] {
        assert!(!Dsn::is_one(other), "{other}");
    }
}

#[test]
fn passwords_are_decoded() {
    for (text, password) in [
        ("postgres://u:p%40ss%3Aw%2Frd%25@h/d", Some("p@ss:w/rd%")),
        ("postgres://u:p@ss@h/d", Some("p@ss")),
        ("postgres://u:a:b@h/d", Some("a:b")),
        ("postgres://u:%E2%82%AC@h/d", Some("€")),
        ("postgres://u@h/d?password=a%26b", Some("a&b")),
        (r"user=u password='a b\\\'c'", Some(r"a b\'c")),
        (r"user=u password=a\ b", Some("a b")),
        ("user=u password=''", None),
        ("postgres://u:@h/d", None),
        ("postgres://u@h/d", None),
    ] {
        let dsn = parse(text);
        assert_eq!(dsn.password.as_ref().map(|secret| secret.0.as_str()), password, "{text}");
        assert_eq!(dsn.has_password(), password.is_some());
    }
}

#[test]
fn the_other_parameters_are_taken() {
    let dsn = parse(
        "postgres://u@h/d?application_name=my%20app&options=-c%20search_path%3Dx&connect_timeout=3\
         &target_session_attrs=prefer-standby&channel_binding=require&hostaddr=10.0.0.1",
    );
    assert_eq!((dsn.application_name.as_str(), dsn.options.as_deref()), ("my app", Some("-c search_path=x")));
    assert_eq!(
        (dsn.connect_timeout, dsn.session_attrs),
        (Duration::from_secs(3), SessionAttrs::PreferStandby)
    );
    assert_eq!(dsn.channel_binding, ChannelBinding::Require);
    let address = "10.0.0.1".parse().ok();
    assert_eq!(dsn.hosts, [Host::Tcp { name: "h".into(), address, port: 5432 }]);
    assert_eq!(dsn.ssl_mode(&dsn.hosts[0]), SslMode::Require);
    for (text, seconds) in [("0", 86_400), ("-1", 86_400), ("1", 2), ("2", 2)] {
        assert_eq!(
            parse(&format!("host=h connect_timeout={text}")).connect_timeout,
            Duration::from_secs(seconds)
        );
    }
    assert_eq!(parse("host=h").connect_timeout, Duration::from_secs(10));
    assert_eq!(parse("host=h").application_name, "nudge");
}

#[test]
fn unknown_parameters_are_named_once_and_nothing_else() {
    let dsn =
        parse("postgres://u:secret@h/d?connection_limit=1&schema=public&pool_timeout=0&schema=x&sslkey=k");
    assert_eq!(dsn.unknown, ["connection_limit", "schema", "pool_timeout", "sslkey"]);
}

#[test]
fn what_cannot_be_used_is_refused_without_the_password() {
    for (text, says) in [
        ("host", "must be postgres://"),
        ("postgres", "must be postgres://"),
        ("postgres://u:[YOUR-PASSWORD]@h/d", "placeholder"),
        ("postgres://u:hunter2%@h/d", "the password: a `%`"),
        ("postgres://u:hunter2%+1@h/d", "the password: a `%`"),
        ("postgres://u:hunter2%ff@h/d", "the password: a `%`"),
        ("postgres://u:hunter2@h/d?sslmode=sometimes", "sslmode must be"),
        ("postgres://u:hunter2@h:0/d", "port must be"),
        ("postgres://u:hunter2@h:99999/d", "port must be"),
        ("host=a,b port=1,2,3 password=hunter2", "port must be one"),
        ("host=a,b hostaddr=10.0.0.1 password=hunter2", "hostaddr must have"),
        ("hostaddr=hunter2", "hostaddr must be"),
        ("host=a connect_timeout=hunter2", "connect_timeout must be"),
        ("host=a target_session_attrs=hunter2", "target_session_attrs must be"),
        ("host=a pgbouncer=hunter2", "pgbouncer must be"),
        ("host=a password='hunter2", "does not end"),
        ("host=a hunter2", "every word"),
        ("postgres://u:hunter2@h/d?sslrootcert=system&sslmode=require", "verify-full"),
    ] {
        let error = text.parse::<Dsn>().unwrap_err();
        for shown in [error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
}

#[test]
fn the_password_is_never_shown() {
    for text in ["postgres://u:hunter2@h/d?x=1", "host=h user=u dbname=d password=hunter2"] {
        let dsn = parse(text);
        assert!(!format!("{dsn:?} {dsn:#?} {dsn}").contains("hunter2"));
        assert_eq!(dsn.to_string(), "postgres://u@h:5432/d");
    }
    let several = parse("postgres://u:hunter2@a,b:5433,[::1]/d");
    assert_eq!(several.to_string(), "postgres://u@a:5432,b:5433,[::1]:5432/d");
    assert_eq!(parse("host=/run/pg user=u").to_string(), "postgres://u@/run/pg/.s.PGSQL.5432/");
}
