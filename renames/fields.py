import re,os,sys
os.chdir(sys.argv[1])
def s(f,*prs):
    t=open(f).read()
    for a,b in prs:
        n=re.sub(a,b,t)
        if n==t: print('FIELD unused',f,a)
        t=n
    open(f,'w').write(t)
A='alerter/src/'; W='worker/src/'
for f in('notify/sender/attempt.rs','notify/sender/routes.rs','notify/sender/device_delivery.rs','pipeline/route_transition.rs','pipeline/transition_rows.rs','pipeline/alert_span.rs'):
    s(A+f,(r'\balert\.to\b','alert.transition'))
for f in('pipeline/transition_rows.rs','pipeline/alert_span.rs'): s(A+f,(r'\balert\.notify\b','alert.notified'))
s(W+'mysql/monthly_partitions.rs',(r'info!\(partition = name','info!(month = name'))
s(W+'batch/batch_metrics.rs',(r'\bfrom = segment\.from','offset.from = segment.from'),(r'\bto = segment\.to','offset.to = segment.to'),(r'\bgap = segment\.gap','offsets_skipped = segment.gap'),(r'\bseconds = took','duration_seconds = took'))
s(W+'commands/migrate/existing_tables.rs',(r'problems = problems\.join','reason = problems.join'))
s(A+'notify/operator_events.rs',(r'warn!\(%error, attempt,','warn!(%error, attempts = attempt,'))
s(A+'notify/sender/attempt.rs',(r'attempt = notification\.attempts','attempts = notification.attempts'))
s(A+'notify/recipients/mod.rs',(r'(?<=\s)customer_id,(\s+)org_id = ids\.org_id,(\s+)omitted,',r'customer.id = customer_id,\1org.id = ids.org_id,\2recipients.omitted = omitted,'),(r'warn!\(fault,','warn!(reason = fault,'))
s(A+'notify/recipients/addresses.rs',(r'warn!\(customer_id, user_id, kind, problem,','warn!(customer.id = customer_id, user.id = user_id, kind, reason = problem,'))
s(A+'rules/loading/reload.rs',(r'warn!\(rule\.id = rule, problems,','warn!(rule.id = rule, reason = problems,'))
s(A+'commands/report/mod.rs',(r'warn!\(refused,','warn!(invalid = refused,'))
s(A+'commands/silence/list.rs',(r'shown = shown\.len','listed = shown.len'))
