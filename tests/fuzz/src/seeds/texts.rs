//! Seeds of the targets that read text.

use ringtail::config::{Kind, broker_rows, topic_rows};

use super::{Seeds, put};

pub fn meta_properties(folder: &mut Seeds) {
    let whole = "#\nversion=1\ncluster.id=MkU3OEVBNTcwNTJENDM2Qk\nnode.id=3\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\n";
    put(folder, "whole", whole.as_bytes());
    put(folder, "newer", whole.replace("version=1", "version=2").as_bytes());
    put(folder, "no-number", whole.replace("node.id=3", "node.id=x").as_bytes());
    put(folder, "no-id", whole.replace("AAAAAQ", "A").as_bytes());
    put(folder, "nothing", b"version=0\n");
    put(
        folder,
        "escapes",
        b"\xef\xbb\xbf! a comment\r\n a\\=b : c\\u00e9\\\n   d\\t\\n\\r\\f\\q\n\x0ckey\nlast\\",
    );
    put(folder, "bad-escape", b"a=\\u12g4");
    put(folder, "partition", b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n");
    put(folder, "epochs", b"0\n2\n1 0\n4 17\n");
    put(folder, "epochs-falling", b"0\n2\n4 0\n1 17\n");
}

pub fn names(folder: &mut Seeds) {
    let names = [
        "AAAAAAAAAAAAAAAAAAAAAQ",
        "_____________________w",
        "00000000000000000042.log",
        "ringtail-base-4.ckpt",
        "ringtail-shard-4-1-9.ckpt",
        "ringtail-journal-4-1-9",
        "topic.name_with-9",
    ];
    for (index, name) in names.into_iter().enumerate() {
        put(folder, &format!("name-{index}"), name.as_bytes());
    }
}

/// A mode of `config` that has what holds described; a multiple of 3.
const DESCRIBED: u8 = 0xc0;

/// Every option of a broker with a value it takes, some to a file, in all places; every option of a topic; lines as they are.
pub fn config(folder: &mut Seeds) {
    let rows: Vec<_> = broker_rows().collect();
    for (chunk, part) in rows.chunks(12).enumerate() {
        let mut seed = vec![DESCRIBED + (chunk % 3) as u8];
        for (index, row) in part.iter().enumerate() {
            let number = chunk * 12 + index;
            seed.extend([0x40 + (number / 64) as u8, 0x40 + (number % 64) as u8]);
            let sample = match row.kind {
                Kind::Boolean => "true",
                Kind::Int | Kind::Long | Kind::Short => "1",
                Kind::Double => "0.5",
                _ => "a,b",
            };
            seed.extend(row.default.unwrap_or(sample).bytes());
            seed.push(b'\n');
        }
        put(folder, &format!("options-{chunk}"), &seed);
    }
    let mut seed = vec![0];
    for row in topic_rows() {
        seed.extend(format!("#{}={}\n", row.row.name, row.row.default.unwrap_or("")).bytes());
    }
    put(folder, "topic", &seed);
    let lines = [
        "#node.id=2",
        "#broker.id=2",
        "#broker.rack=r",
        "#log.dirs=/a,/b",
        "#metadata.log.dir=/c",
        "#ringtail.shards=2",
        "#ringtail.memory.bytes=25%",
        "#ringtail.journal.bytes=64m",
        "#ringtail.reserve.bytes=1g",
        "#ringtail.spin.us=0",
        "#ringtail.durability=written",
        "#log.retention.hours=1",
        "#log.roll.hours=2",
        "#cleanup.policy=compact,delete",
        "#message.timestamp.type=LogAppendTime",
        "#compression.type=zstd",
        "#flush.messages=1",
        "#zookeeper.connect=h",
        "#listener.name.x=y",
        "#log.retenton.ms=7",
        "#qwertyuiop=1",
        "#connections.max.idle.ms=-1",
    ];
    for (mode, name) in ["file", "arguments", "variables"].into_iter().enumerate() {
        let mut seed = vec![DESCRIBED + mode as u8];
        seed.extend(lines.join("\n").bytes());
        put(folder, name, &seed);
    }
    put(
        folder,
        "contradictions",
        b"\0#node.id=1\n#broker.id=2\n#log.dirs=/a,/a\n#ringtail.memory.bytes=1t\n#listeners=X\n",
    );
    put(
        folder,
        "small",
        b"\0#ringtail.memory.bytes=1%\n#log.dirs=,\n#min.compaction.lag.ms=9\n#max.compaction.lag.ms=8\n",
    );
    put(folder, "syntax", b"\0#a=\\u12\n");
}

pub fn listeners(folder: &mut Seeds) {
    let cases = [
        "PLAINTEXT://:9092",
        "PLAINTEXT://localhost:9092\nPLAINTEXT://kafka.example:19092",
        "plaintext://[::1]:9092,INSIDE://10.0.0.7:9094,CONTROLLER://:9093\n-\nCONTROLLER:SSL,PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT\nCONTROLLER",
        "PLAINTEXT://[::]:0\nPLAINTEXT://[fe80::1]:1",
        "PLAINTEXT://0.0.0.0:9092\nPLAINTEXT://0.0.0.0:9092",
        "A://a:1,B://:1\n-\nA:PLAINTEXT,B:PLAINTEXT",
        "A://a:1,A://b:2\n-\nA:PLAINTEXT",
        "SSL://h:1",
        "-\nOTHER://h:1",
        "PLAINTEXT://h:65536",
        "X://h:1\n-\nX",
        "",
    ];
    for (index, case) in cases.into_iter().enumerate() {
        put(folder, &format!("case-{index}"), case.as_bytes());
    }
}
