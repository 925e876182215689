import re,os,sys
os.chdir(sys.argv[1])
rs=[]
for root in ('common','gateway','worker','alerter'):
    for d,_,fs in os.walk(root):
        if 'target' in d: continue
        rs+=[os.path.join(d,f) for f in fs if f.endswith('.rs')]
rows=[l.rstrip('\n').split('\t') for l in open('renames/logs.tsv')][1:]
msgs=[r for r in rows if r[0]=='message']
msgs.sort(key=lambda r:-len(r[1]))
def rx(m): return r'(?:\s*\\\n\s*|\s)'.join(re.escape(w) for w in m.split(' '))
for r in msgs:
    old,new,f=r[1],r[2],r[3]; crate=f.split('/')[0]
    n=0
    for p in rs:
        if not (p.startswith(crate+'/') or (crate=='common' and p.startswith('common/'))): continue
        t=open(p).read()
        pat='"'+rx(old)+'"'
        k=len(re.findall(pat,t))
        if k:
            if len({l for l in [p]})and old in('cannot read from Kafka',) and 'topic_reader' not in p and 'poll_thread' not in p: continue
            rep=new
            if old=='cannot read from Kafka': rep='Kafka reader reported an error' if 'topic_reader' in p else 'cannot read from Kafka, retrying'
            t=re.sub(pat,lambda x:'"'+rep+'"',t); open(p,'w').write(t); n+=k
    if not n: print('NOT FOUND',f,'|',old)
