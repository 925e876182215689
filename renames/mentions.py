import os,sys
os.chdir(sys.argv[1])
def s(f,*prs):
    t=open(f).read()
    for a,b in prs:
        if a not in t: print('MENTION unused',f,a)
        t=t.replace(a,b)
    open(f,'w').write(t)
e='tests/e2e/'
s(e+'faults/lost_parts.rs',('the producer cannot go on','Kafka producer failed permanently'))
s(e+'faults/commits.rs',('the ledger had moved without this batch','ledger compare-and-set failed, dropping segment'),('contains("the ledger had moved")','contains("ledger compare-and-set failed")'),('"batch held"','"cannot write batch"'))
s(e+'faults/tls.rs',('Redis cannot be reached','cannot reach Redis'),('"Redis cannot"','"cannot reach Redis"'),('cannot send spans','cannot export spans'))
s(e+'operators/health.rs',('Redis does not take batches','cannot write batches to Redis'))
s(e+'worker/redis.rs',('cannot be repaired','cannot repair Redis'))
s(e+'worker/tables.rs',('contains("months wait")','contains("cannot maintain monthly partitions")'))
s('deploy/runbook.md',('`Redis does not take batches`','`cannot write batches to Redis`'),('`Redis cannot be repaired yet`','`cannot repair Redis`'),('`the producer cannot go on`','`Kafka producer failed permanently`'),('tag("alert.to")','tag("alert.transition")'))
s('docs/data.md',('`months wait`','`cannot maintain monthly partitions`'))
