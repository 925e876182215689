# shellcheck shell=bash
# Apache Kafka: one KRaft node, broker and controller in one process; jars by Maven (kafka/pom.xml).

kafka_version() { sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$HERE/kafka/pom.xml"; }
kafka_ports() { echo kafka kafka-controller "${TLS:+kafka-tls}"; }
kafka_given() { [[ -n ${KAFKA_BROKERS:-} ]]; }
# The services accept one broker only with DEVELOPMENT. With TLS, Kafka has a second listener, where user
# `ingest` logs in by SCRAM or PLAIN, and an authorizer.
kafka_variables() {
  echo "KAFKA_BROKERS=127.0.0.1:$(port kafka)"
  echo "DEVELOPMENT=true"
  [[ -z $TLS ]] || echo "KAFKA_TLS_BROKERS=127.0.0.1:$(port kafka-tls)"
}

# Kafka's server needs Java 17.
kafka_java_fits() {
  local version
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p') && ((${version:-0} >= 17))
}

kafka_install() {
  local missing=()
  if ! have java || ! kafka_java_fits; then
    missing+=("$(first_package openjdk-17-jre-headless openjdk-21-jre-headless default-jre-headless)")
  fi
  [[ -d $(kafka_libs) ]] || have mvn || missing+=(maven)
  ((${#missing[@]} == 0)) || packages Kafka "${missing[@]}"
  kafka_java_fits || die "kafka needs Java 17 or later; the java on the PATH is older"
  cached "$(basename "$(kafka_libs)")" kafka_fetch
}

# The folder's name holds a checksum of the whole list, so a changed pom.xml is fetched again.
kafka_libs() { echo "$CACHE/kafka-$(kafka_version)-formatted-$(cksum <"$HERE/kafka/pom.xml" | cut -d' ' -f1)"; }

# Fetches the jars and formats a data folder, which every new stack copies. Formatting takes a Java process
# 2 s, and its results differ only in the cluster's id.
kafka_fetch() {
  say "fetching kafka $(kafka_version) with Maven (about 45 MB)"
  # Maven writes target/ beside the pom, so copy the pom out of the checkout.
  cp "$HERE/kafka/pom.xml" "$1/pom.xml"
  interruptible mvn -q -B -f "$1/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$1" >"$1/fetch.log" 2>&1 || { tail -n 20 "$1/fetch.log" >&2 && return 1; }
  cat >"$1/format.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:1
listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1
controller.listener.names=CONTROLLER
log.dirs=$1/formatted
EOF
  interruptible java "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties" -cp "$1/*" \
    kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$1/format.properties" \
    >"$1/format.log" 2>&1 || { tail -n 20 "$1/format.log" >&2 && return 1; }
}

kafka_tls() {
  local jaas=org.apache.kafka.common.security
  cat "$TLS/server.key" "$TLS/server.pem" >"$STATE/kafka/server.pem"
  cat <<EOF

ssl.keystore.type=PEM
ssl.keystore.location=$STATE/kafka/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$TLS/ca.pem
ssl.client.auth=requested
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$jaas.scram.ScramLoginModule required;
listener.name.sasl_ssl.plain.sasl.jaas.config=$jaas.plain.PlainLoginModule required user_ingest="$PASSWORD";

# A test takes rights from user ingest by rules. Without a rule everything is allowed, even to create a topic
# by accident.
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=true
auto.create.topics.enable=true
EOF
}

kafka_prepare() {
  local home=$STATE/kafka tls=
  [[ -z $TLS ]] || tls=",SASL_SSL://127.0.0.1:$(port kafka-tls)"
  mkdir -p "$home"
  cat >"$home/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$(port kafka-controller)
listeners=PLAINTEXT://127.0.0.1:$(port kafka),CONTROLLER://127.0.0.1:$(port kafka-controller)$tls
advertised.listeners=PLAINTEXT://127.0.0.1:$(port kafka)$tls
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT${tls:+,SASL_SSL:SASL_SSL}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$home/data

# One node: every internal topic has one replica. Few partitions, since each costs files and time.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=8
min.insync.replicas=1
default.replication.factor=1
num.partitions=12

# A consumer group starts at once. Topics are created explicitly.
group.initial.rebalance.delay.ms=0
# If the broker assigns partitions (KIP-848), it sets the sessions: as short as the services' own.
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=6000
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=1000
auto.create.topics.enable=false
message.max.bytes=4194304
replica.fetch.max.bytes=4194304

# A killed broker can return only when its old session has expired; the default is 9 s. Not much less, or a
# machine that is busy compiling would lose a healthy broker.
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
EOF
  [[ -z $TLS ]] || kafka_tls >>"$home/server.properties"
  [[ -d $home/data ]] && return
  if [[ -n $TLS ]]; then
    # Before a broker runs, only formatting can create a user.
    java "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties" -cp "$(kafka_libs)/*" \
      kafka.tools.StorageTool format -t "$(kafka_cluster_id)" -c "$home/server.properties" \
      --add-scram "SCRAM-SHA-512=[name=ingest,password=$PASSWORD]" >"$home/format.log" 2>&1 ||
      { rm -rf -- "$home/data" && tail -n 20 "$home/format.log" >&2 && return 1; }
    return
  fi
  # Copy to another folder and rename it: an interrupted copy must not look complete.
  rm -rf -- "$home/data.part"
  cp -r -- "$(kafka_libs)/formatted" "$home/data.part"
  sed -i "s/^cluster.id=.*/cluster.id=$(kafka_cluster_id)/" "$home/data.part/meta.properties"
  mv -- "$home/data.part" "$home/data"
}

# Kafka's form of a UUID: 16 bytes as base64 in the URL alphabet.
kafka_cluster_id() { head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c1-22; }

kafka_command() {
  ARGV=(java -Xmx512m -XX:+UseSerialGC "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties"
    -cp "$(kafka_libs)/*" kafka.Kafka "$STATE/kafka/server.properties")
}

# Ready when the answer to a Metadata request (v4, no topics) lists at least one broker. The list omits a
# broker that may not serve yet, although its port is open.
kafka_ready() {
  local answer
  # shellcheck disable=SC2016
  answer=$(timeout 2 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0" &&
    printf "\0\0\0\017\0\003\0\004\0\0\0\001\377\377\0\0\0\0\0" >&3 &&
    head -c 16 <&3 | od -An -v -tx1 | tr -d " \n"' "$(port kafka)" 2>/dev/null) || return 1
  # size, correlation id, throttle time, then the number of brokers
  [[ ${#answer} == 32 && ${answer:24} != 00000000 ]]
}
