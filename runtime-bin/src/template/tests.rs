use super::*;
use serde_json::json;

fn data() -> Value {
    json!({
        "ID": "0123456789abcdef", "Names": "web", "Size": 5, "Zero": 0, "Empty": "", "None": null,
        "State": {"Status": "running", "Running": true, "Pid": 42},
        "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}],
        "Config": {"Labels": {"a.b": "c", "plain": "d"}, "Env": ["A=1", "B=2"]},
        "Ports": {"80/tcp": [{"HostPort": "8080"}], "443/tcp": null},
    })
}

fn ok(template: &str) -> String {
    render(template, &data()).unwrap_or_else(|error| panic!("{template}: {error}"))
}

fn fails(template: &str) -> String {
    render(template, &data()).expect_err(template).to_string()
}

#[test]
fn what_docker_users_write() {
    for (template, expected) in [
        ("plain } text {", "plain } text {"),
        ("{{.ID}}", "0123456789abcdef"),
        ("{{ .Names }}:{{.State.Status}}", "web:running"),
        ("{{json .State}}", r#"{"Pid":42,"Running":true,"Status":"running"}"#),
        ("{{json .Names}}", "\"web\""),
        ("{{.State.Pid | json}}", "42"),
        ("{{.State.Running}} {{.None}}", "true <no value>"),
        ("{{index .Config.Labels \"a.b\"}}", "c"),
        ("[{{index .Config.Labels \"no\"}}]", "[]"),
        ("{{.Config.Labels.plain}} {{.Config.Labels.gone}}", "d <no value>"),
        ("{{range .Mounts}}{{.Source}} {{end}}", "/a /b "),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=2\n"),
        ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
        (
            "{{range $p, $c := .Ports}}{{$p}} {{if $c}}{{(index $c 0).HostPort}}{{else}}-{{end}} {{end}}",
            "443/tcp - 80/tcp 8080 ",
        ),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Zero}}a{{else if .Empty}}b{{else}}c{{end}}", "c"),
        ("{{if .State.Health}}x{{else}}none{{end}}", "none"),
        ("{{if eq .State.Status \"running\" \"paused\"}}y{{end}}", "y"),
        ("{{if and .Names (not .Empty)}}y{{end}}{{or .Empty \"z\"}}", "yz"),
        ("{{with .State}}{{.Pid}} {{$.Names}}{{end}}", "42 web"),
        ("{{upper .Names}} {{lower \"ABC\"}} {{title \"a bc\"}}", "WEB abc A Bc"),
        ("{{join .Config.Env \",\"}} {{join (split \"a,b\" \",\") \"-\"}}", "A=1,B=2 a-b"),
        ("{{truncate .ID 12}} {{slice .ID 0 4}} {{len .Mounts}}", "0123456789ab 0123 2"),
        (
            "{{printf \"%-5s|%5s|%03d|%q|%v%%\" .Names .Names .Size .Names .Size}}",
            "web  |  web|005|\"web\"|5%",
        ),
        ("{{.Names | upper | printf \"<%s>\"}}", "<WEB>"),
        ("a  {{- .Names -}}  b", "awebb"),
        ("{{/* nothing */}}x{{- /* nothing */ -}} y", "xy"),
        ("{{$x := .State}}{{$x.Pid}}{{$x = 1}}{{$x}}", "421"),
        ("{{`raw\\n`}}{{\"\\t\\u00e4\"}}{{'a'}}", "raw\\n\tä97"),
        ("{{pad .Names 1 2}}|{{print 1 2 \"x\"}}", " web  |1 2x"),
        ("{{.Config.Env}} {{.Config.Labels}}", "[A=1 B=2] map[a.b:c plain:d]"),
        ("{{range .None}}{{else}}none{{end}}", "none"),
        ("{{if lt 1 2}}{{ge 2 2}}{{end}} {{ne \"a\" \"b\"}} {{-1}}", "true true -1"),
    ] {
        assert_eq!(ok(template), expected, "{template}");
    }
}

#[test]
fn errors_name_the_place() {
    for (template, position, words) in [
        ("{{.Nope}}", 3, "no field .Nope"),
        ("ä{{.names}}{{.STATE}}", 14, "do you mean .State?"),
        ("{{.Names", 9, "no end"),
        ("{{if .Names}}x", 3, "no {{end}}"),
        ("{{end}}", 3, "no block"),
        ("{{else}}", 3, "no {{if}}"),
        ("{{if .Names}}{{else}}{{else}}{{end}}", 24, "already"),
        ("x{{nofunc .}}", 4, "function \"nofunc\" not defined"),
        ("{{upper .Size}}", 3, "upper needs a text"),
        ("{{upper}}", 3, "wrong number of arguments"),
        ("{{(.Names}}", 3, "not closed"),
        ("{{\"abc}}", 3, "no end"),
        ("{{.Names | \"x\"}}", 11, "has to be a function"),
        ("{{$gone}}", 3, "undefined variable \"$gone\""),
        ("{{.Names.More}}", 3, "no fields"),
        ("{{.None.More}}", 3, "no value"),
        ("{{index .Mounts 7}}", 3, "out of range"),
        ("{{}}", 3, "a value is missing"),
        ("{{.Names 1}}", 10, "takes no arguments"),
        ("{{printf \"%s\"}}", 3, "no value for %s"),
        ("{{printf \"%99999s\" .Names}}", 3, "width"),
        ("{{define \"x\"}}", 3, "not known"),
        ("{{range .Names}}{{end}}", 9, "needs a list"),
        ("{{?}}", 3, "'?'"),
        ("{{eq .Names 1}}", 3, "cannot compare"),
    ] {
        let error = fails(template);
        assert!(error.contains(&format!("at character {position}: ")), "{template}: {error}");
        assert!(error.contains(words), "{template}: {error}");
    }
    assert!(fails(&"(".repeat(5000).replace('(', "{{if .ID}}")).contains("nested"));
    assert!(fails(&format!("{{{{{}", "(".repeat(100_000))).contains("nested"));
}

#[test]
fn labels_are_asked_for_by_name() {
    let (value, labels) = (json!({"ID": "x"}), json!({"com.x.my-key": "v"}));
    let text = "{{.ID}} {{.Label \"com.x.my-key\"}} {{.Label \"no\"}}|{{upper .ID}}";
    let template = Template::parse(text).unwrap();
    let data = Data { value: &value, labels: labels.as_object(), heading: false };
    assert_eq!(template.render(data).unwrap(), "x v |X");
    let heading = template.render(Data { heading: true, ..data }).unwrap();
    assert_eq!(heading, "x my key no|x");
    let none = Template::parse("{{.Label}}").unwrap().render(data).unwrap_err();
    assert!(none.to_string().contains("name of one label"), "{none}");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in ".{0,60}") {
        let _ = render(&text, &data());
        let _ = render(&format!("{{{{{text}}}}}"), &data());
    }

    #[test]
    fn never_panics_on_what_is_nearly_one(parts in proptest::collection::vec(
        proptest::sample::select(vec![
            "{{", "}}", "{{-", "-}}", " -}}", "{{- ", ".", "$", "$x", ":=", "=", ",", "|", "(", ")", " ", "\"", "'", "`",
            "\\", "\\u00", "if", "else", "end", "range", "with", "index", "json", "printf", "len", "slice", "truncate",
            "\"%5.3s%d\"", "join", "0", "-1", "9999999999999999999", "1.5", ".State", ".Mounts", "ä", "/*", "*/", "nil", "\n",
            "and", "or", "not", "eq", "lt", "split", "\"\"", "pad", "title",
        ]), 0..24))
    {
        let _ = render(&parts.concat(), &data());
        let _ = render(&format!("{{{{{}}}}}", parts.join(" ")), &data());
    }

    #[test]
    fn text_without_actions_is_itself(text in "[^{]{0,40}") {
        proptest::prop_assert_eq!(render(&text, &data()).unwrap(), text);
    }
}
