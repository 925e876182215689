#!/usr/bin/env python3
"""rename.py ROOT OLDREPO types.tsv members.tsv : applies renames to the tree at ROOT; old paths are of OLDREPO (9e5b384 checkout)."""
import os,re,sys,collections
ROOT,OLD,TYPES,MEMBERS=sys.argv[1:5]
os.chdir(ROOT)
CR={'ljwx_reading':'common/reading/src','ljwx_service':'common/service/src','ljwx_ledger':'common/ledger/src','ljwx_gateway':'gateway/src','ljwx_worker':'worker/src','ljwx_alerter':'alerter/src','ljwx_tests':'tests/src','e2e':'tests/e2e','storage':'worker/tests/storage'}
OLDCR={'common':('common/src',('ljwx_reading','ljwx_service','ljwx_ledger','ljwx_worker')),'gateway':('gateway/src',('ljwx_gateway',)),'worker':('worker/src',('ljwx_worker',)),'alerter':('alerter/src',('ljwx_alerter',)),'tests':('tests/src',('ljwx_tests',))}
MOD=re.compile(r'^(?P<attrs>(?:#\[[^\n]*\]\n)*)(?P<vis>pub(?:\([^)]*\))? )?mod (?P<name>\w+);\n',re.M)
files={} # path -> module tuple
text={}
def walk(mod,f):
    files[f]=mod; text[f]=open(f).read()
    d=os.path.dirname(f); b=os.path.basename(f); cd=d if b in('mod.rs','lib.rs','main.rs') else os.path.join(d,b[:-3])
    for x in MOD.finditer(text[f]):
        pm=re.search(r'#\[path = "([^"]+)"\]',x['attrs'])
        if pm: g=os.path.join(d,pm[1])
        else:
            g=os.path.join(cd,x['name']+'.rs')
            if not os.path.exists(g): g=os.path.join(cd,x['name'],'mod.rs')
        walk(mod+(x['name'],),g)
for c,d in CR.items():
    f=d+('/main.rs' if c in('e2e','storage') else '/lib.rs'); walk((c,),f)
loose=['gateway/src/main.rs','worker/src/main.rs','alerter/src/main.rs']+['alerter/benches/'+x for x in os.listdir('alerter/benches')]+['tests/src/bin/'+x for x in os.listdir('tests/src/bin')]
for i,f in enumerate(loose): files[f]=('loose%d'%i,); text[f]=open(f).read()
modfile={m:f for f,m in files.items()}
TOK=re.compile(r'''(?P<com>//[^\n]*|/\*.*?\*/)|(?P<str>b?r(?P<h>\#*)".*?"(?P=h)|b?"(?:[^"\\]|\\.)*")|(?P<chr>b?'(?:[^'\\\n]|\\[^\n]{1,8}?)')|(?P<life>'[A-Za-z_]\w*)|(?P<id>[A-Za-z_]\w*)|(?P<num>\d[\w.]*)|(?P<cc>::)|(?P<o>.)''',re.S)
def leaves(s):
    toks=re.findall(r'::|\{|\}|,|\*|\w+',s); pos=0
    def tree(prefix):
        nonlocal pos
        segs=list(prefix); out=[]
        while True:
            t=toks[pos]
            if t=='{':
                pos+=1
                while toks[pos]!='}':
                    out+=tree(segs)
                    if toks[pos]==',': pos+=1
                pos+=1; return out
            segs.append(t); pos+=1
            if pos<len(toks) and toks[pos]=='::': pos+=1; continue
            al=None
            if pos<len(toks) and toks[pos]=='as': al=toks[pos+1]; pos+=2
            return [(segs,al)]
    return tree([])
DEF=re.compile(r'^[ \t]*(?:pub(?:\([^)]*\))? )?(?:unsafe )?(?:async )?(?:const )?(?:struct|enum|trait|type|union|const|static|fn) +(?:mut )?(\w+)',re.M)
DEFM=re.compile(r'^\s*(?:Counter|Gauge|Histogram) (\w+) =',re.M)
defs=collections.defaultdict(set); uses=collections.defaultdict(list)
USE=re.compile(r'^[ \t]*(?:pub(?:\([^)]*\))? )?use ([^;]+);',re.M)
for f,m in files.items():
    t=text[f]
    for x in DEF.finditer(t): defs[m].add(x[1])
    for x in DEFM.finditer(t): defs[m].add(x[1])
    for x in USE.finditer(t):
        for segs,al in leaves(x[1]): uses[m].append((segs,al))
def parent(m): return m[:-1]
def absmod(m,segs):
    """module-ish path -> list of candidate (module, restsegs)"""
    f=segs[0]
    if f=='crate': p=(m[0],)+tuple(segs[1:])
    elif f=='self': p=m+tuple(segs[1:])
    elif f=='super':
        i=0;p=m
        while i<len(segs) and segs[i]=='super': p=p[:-1]; i+=1
        p=p+tuple(segs[i:])
    elif f in CR: p=tuple(segs)
    elif m+(f,) in modfile: p=m+tuple(segs)
    else: return None
    return p
def resolve_path(m,segs,depth=0,inner=False):
    """abs (module,name) the path names, or module tuple if it is a module. inner: inside inline mod tests, super = file"""
    if depth>12: return None
    if len(segs)>1 and segs[0]=='super' and inner:
        r=resolve_path(m,['self']+list(segs[1:]),depth+1)
        if r: return r
    p=absmod(m,segs)
    if p is None:
        # first seg is a local name
        r=lookup(m,segs[0],depth+1)
        if r is None: return None
        if r[0]=='mod':
            if len(segs)==1: return r
            return walkdown(r[1],segs[1:],depth)
        if len(segs)==1: return r
        return ('assoc',r,segs[1:])
    # longest module prefix
    for n in range(len(p),0,-1):
        if p[:n] in modfile:
            rest=p[n:]
            if not rest: return ('mod',p)
            return walkdown(p[:n],rest,depth)
    return None
def walkdown(mod,segs,depth):
    if mod+(segs[0],) in modfile:
        if len(segs)==1: return ('mod',mod+(segs[0],))
        return walkdown(mod+(segs[0],),segs[1:],depth)
    r=lookup(mod,segs[0],depth+1)
    if r is None: return None
    if len(segs)==1: return r
    if r[0]=='mod': return walkdown(r[1],segs[1:],depth)
    return ('assoc',r,segs[1:])
cache={}
def lookup(m,name,depth=0):
    if depth>12: return None
    k=(m,name)
    if k in cache: return cache[k]
    cache[k]=None
    r=None
    if name in defs[m]: r=('item',m,name)
    elif m+(name,) in modfile and False: r=('mod',m+(name,))
    else:
        for segs,al in uses[m]:
            last=al or (segs[-2] if segs[-1]=='self' and len(segs)>1 else segs[-1])
            if last==name:
                s=segs[:-1] if segs[-1]=='self' and len(segs)>1 else segs
                if s==[name] : continue
                r=resolve_path(m,s,depth+1)
                if r is None: r=resolve_path(m,s,depth+1,inner=True)
                if r is not None: break
                else: r=('ext',tuple(s)); break
        if r is None:
            for segs,al in uses[m]:
                if segs[-1]=='*':
                    b=resolve_path(m,segs[:-1],depth+1)
                    if b and b[0]=='mod' and b[1]!=m:
                        r=lookup(b[1],name,depth+1)
                        if r and r[0]!='ext': break
                        r=None
        if r is None and m+(name,) in modfile: r=('mod',m+(name,))
    cache[k]=r
    return r
def norm(l): return re.sub(r'pub(\([^)]*\))? ','',l).strip()
# ---- targets
def oldfile(mods):
    base=OLDCR[mods[0]][0]; p=os.path.join(OLD,base,*mods[1:])
    for c in (p+'.rs',p+'/mod.rs'):
        if os.path.exists(c): return c
    if len(mods)==1: return os.path.join(OLD,base,'lib.rs')
    return None
def snippet(t,name):
    x=re.search(r'^[ \t]*(?:pub(?:\([^)]*\))? )?(?:async )?(?:const )?(?:struct|enum|trait|type|const|static|fn) +'+name+r'\b[^\n]*\n(?:[^\n]*\n){0,3}',t,re.M)
    return [norm(l) for l in x[0].split('\n')] if x else None
targets={} ; variants=collections.defaultdict(dict); problems=[]
assoc=collections.defaultdict(dict)
for line in open(TYPES):
    line=line.rstrip('\n')
    if not line.strip(): continue
    parts=line.split('\t'); path,new=parts[0].strip(),parts[1].strip()
    segs=path.split('::')
    # split module / item / variant
    k=None
    for n in range(len(segs),0,-1):
        f=oldfile(segs[:n])
        if f: k=n; break
    rest=segs[k:]
    if not rest: problems.append(('no item',path)); continue
    name=rest[0]
    cands=[(m,f) for f,m in files.items() if name in defs[m] and m[0] in OLDCR[segs[0]][1]]
    if len(cands)>1:
        ot=open(f if False else oldfile(segs[:k])).read(); s=snippet(ot,name)
        sc=[(sum(a==b for a,b in zip(s or [],snippet(text[g],name) or [])),m,g) for m,g in cands]
        best=max(x[0] for x in sc)
        cands=[(m,g) for c,m,g in sc if c==best]
    if len(cands)>1:
        rel_old=os.path.relpath(oldfile(segs[:k]),OLD)
        mv={a:b for a,b in (l.split() for l in open('renames/moves.txt') if l.strip() and l[0]!='#')}
        pref=[x for x in cands if x[1]==mv.get(rel_old,rel_old)]
        if len(pref)==1: cands=pref
    if len(cands)!=1: problems.append(('def?',path,[g for _,g in cands])); continue
    m=cands[0][0]
    if len(rest)==1: targets[(m,name)]=new
    else: variants[(m,name)][rest[1]]=new
# ---- members, by lines
members=collections.defaultdict(list)
for line in open(MEMBERS):
    if not line.strip(): continue
    p=line.rstrip('\n').split('\t'); sc,rx,new=p[0],p[1],p[2]
    for s in sc.split(','):
        s=s.strip(); import glob
        fs=glob.glob(os.path.join(OLD,s),recursive=True)
        if not fs: problems.append(('scope?',s,rx)); continue
        for g in fs:
            ls={norm(l) for l in open(g).read().split('\n') if re.search(rx,l)}
            members[(s.split('/')[0],)].append((rx,new,ls,os.path.relpath(g,OLD)))
oldlines={}
def old(sc):
    if sc not in oldlines: oldlines[sc]={norm(l) for l in open(os.path.join(OLD,sc)).read().split('\n') if len(l.strip())>12}
    return oldlines[sc]
rel={}
def related(f,sc):
    k=(f,sc)
    if k not in rel:
        mine=[norm(l) for l in text[f].split('\n') if len(l.strip())>12]
        hit=sum(1 for l in mine if l in old(sc))
        rel[k]=hit>=5 and (hit>=0.25*len(mine) or hit>=0.5*len(old(sc)))
    return rel[k]
MV={a:b for a,b in (l.split() for l in open('renames/moves.txt') if l.strip() and l[0]!='#')}
rel2={}
def loosely(f,sc):
    k=(f,sc)
    if k not in rel2:
        mine=[norm(l) for l in text[f].split('\n') if len(l.strip())>12]
        hit=len({l for l in mine if l in old(sc)})
        rel2[k]=f==MV.get(sc,sc) or (hit>=8 and hit>=0.15*len(mine))
    return rel2[k]
def codeparts(line):
    """split a line into code and string/comment parts (line-local)"""
    out=[];last=0
    for x in re.finditer(r'"(?:[^"\\]|\\.)*"|//.*$',line):
        out.append((True,line[last:x.start()])); out.append((False,x[0])); last=x.end()
    out.append((True,line[last:])); return out
usedm=collections.Counter()
def apply_members(f,t):
    key=f.split('/')[0]
    rules=members.get((key,),[])+([r for r in members.get(('common',),[])] if key in('worker',) else [])
    if not rules: return t
    out=[]
    for l in t.split('\n'):
        s=norm(l)
        if s:
            for rx,new,ls,sc in rules:
                if (s in ls and loosely(f,sc)) or (related(f,sc) and s not in old(sc)):
                    def do(p):
                        try: return re.sub(rx,new.replace('\\','\\\\') if not re.search(r'\\\d',new) else new,p)
                        except re.error as e: problems.append(('rx',rx,str(e))); return p
                    cap=lambda p: re.sub(r'\{(\w+)(?=[}:])',lambda y:'{'+do(y[1]),p) if p.startswith('"') else p
                    n=''.join(do(p) if c else cap(p) for c,p in codeparts(l)) if not s.startswith('//') else l
                    if n!=l: usedm[(sc,rx)]+=1; l=n
        out.append(l)
    return '\n'.join(out)
# ---- apply
usedt=collections.Counter()
def resolve_local(m,name):
    return lookup(m,name)
def want(m,chain,name):
    """new name for `chain::name` seen in module m, or None"""
    if chain:
        if chain==['Self']: return None
        rs=[resolve_path(m,chain),resolve_path(m,chain,inner=True)] if chain[0]=='super' else [resolve_path(m,chain)]
        for r in rs:
            if r is None: continue
            if r[0]=='mod':
                q=walkdown(r[1],[name],0)
                if q and q[0]=='item' and (q[1],q[2]) in targets: return targets[(q[1],q[2])]
            elif r[0]=='item' and name in variants.get((r[1],r[2]),{}): usedt[(r[1],r[2],name)]+=1; return variants[(r[1],r[2])][name]
        return None
    q=lookup(m,name)
    if q and q[0]=='item' and (q[1],q[2]) in targets: return targets[(q[1],q[2])]
    return None
def process(f):
    m=files[f]; t=apply_members(f,text[f])
    # use statements
    toks=[(x.lastgroup,x[0]) for x in TOK.finditer(t)]
    kinds=[]
    res=[]; i=0; n=len(toks)
    # enum bodies of targets' variants
    enumdefs={name:v for (mm,name),v in variants.items() if mm==m}
    vocab=set(k[1] for k in targets)|{x for v in variants.values() for x in v}
    def prevsig(k):
        k-=1
        while k>=0 and (toks[k][0]=='com' or toks[k][1].isspace()): k-=1
        return k
    def nextsig(k):
        k+=1
        while k<n and (toks[k][0]=='com' or toks[k][1].isspace()): k+=1
        return k
    inuse=False; curuse=None; impl=None; enumname=None; depth=0; enumdepth=None; par=0; enumpar=0
    implstack=[]
    while i<n:
        g,s=toks[i]
        if g=='id' and s=='use' and (prevsig(i)<0 or toks[prevsig(i)][1] in (';','}','{',')','pub',']') or toks[prevsig(i)][0] in('str',)):
            # whole statement
            j=i
            while toks[j][1]!=';': j+=1
            stmt=''.join(x[1] for x in toks[i:j])
            body=stmt[3:].strip()
            for segs,al in leaves(body):
                if segs[-1] in('*','self'): continue
                for inner in (False,True):
                    r=resolve_path(m,segs,inner=inner)
                    if r and r[0]=='item' and (r[1],r[2]) in targets and r[2]==segs[-1]:
                        stmt=re.sub(r'(?<!\w)'+segs[-1]+r'(?!\w)',targets[(r[1],r[2])],stmt); usedt[(r[1],r[2])]+=1; break
                    if r and r[0]=='assoc' and r[1][0]=='item':
                        pass
            # a path through a renamed enum: use crate::x::Enum::{A, B}
            for segs,al in leaves(body):
                r=resolve_path(m,segs)
                if r and r[0]=='assoc' and r[1][0]=='item' and (r[1][1],r[1][2]) in targets:
                    stmt=re.sub(r'(?<!\w)'+r[1][2]+r'(?!\w)',targets[(r[1][1],r[1][2])],stmt)
            res.append(stmt); i=j; continue
        if g=='o' and s in '([': par+=1
        if g=='o' and s in ')]': par-=1
        if g=='o' and s=='{':
            depth+=1
            if enumname and enumdepth is None: enumdepth=depth; enumpar=par
        if g=='o' and s=='}':
            if enumdepth==depth: enumdepth=None; enumname=None
            depth-=1
            if implstack and implstack[-1][1]>depth: implstack.pop()
        if g=='id' and s=='enum':
            k=nextsig(i)
            enumname=toks[k][1]
        if g=='id' and s=='impl':
            # type of the impl: last path ident before { or where at level
            k=i+1; ids=[]; angle=0
            while k<n and toks[k][1]!='{':
                if toks[k][0]=='id' and toks[k][1]=='for': ids=[]
                elif toks[k][1]=='<': angle+=1
                elif toks[k][1]=='>' : angle-=1
                elif toks[k][0]=='id' and angle<=0 and toks[k][1]!='where': ids.append(toks[k][1])
                elif toks[k][0]=='id' and toks[k][1]=='where': break
                k+=1
            if ids: implstack.append((ids[0] if len(ids)==1 else ids[-1],depth+1))
        if g=='id' and s in vocab:
            p=prevsig(i)
            new=None
            en0=implstack[-1][0] if implstack else None
            if p>=0 and toks[p][1] in('const','fn') and en0 in enumdefs and s in enumdefs[en0]: new=enumdefs[en0][s]
            elif enumname and enumdepth==depth and par==enumpar and p>=0 and toks[p][1] in('{',',',']','}'):
                if s in enumdefs.get(enumname,{}): new=enumdefs[enumname][s]; usedt[(m,enumname,s)]+=1
            elif p>=0 and toks[p][0]=='cc':
                chain=[]; k=p
                ok=True
                while k>=0 and toks[k][0]=='cc':
                    q=prevsig(k)
                    if toks[q][0]=='id': chain.insert(0,toks[q][1]); k=prevsig(q)
                    else: ok=False; break
                if ok:
                    if chain==['Self']:
                        en=implstack[-1][0] if implstack else None
                        if en in enumdefs and s in enumdefs[en]: new=enumdefs[en][s]
                    else: new=want(m,chain,s)
            elif p>=0 and toks[p][1]=='.' and not (p>0 and toks[p-1][1]=='.'): new=None
            else:
                nx=nextsig(i)
                q=lookup(m,s)
                if s[0].islower():
                    if q and q[0]=='item' and (q[1],q[2]) in targets and (toks[nx][1]=='(' or toks[p][1]=='fn'):
                        # definition as method is not this
                        new=targets[(q[1],q[2])]
                        if toks[p][1]=='fn' and not (q[1]==m): new=None
                    elif q and q[0]=='item' and (q[1],q[2]) in targets: problems.append(('fn by name?',f,s))
                else: new=want(m,[],s)
            if new:
                for key in targets:
                    pass
                res.append(new); i+=1; continue
        if g=='str' and '{' in s:
            s=re.sub(r'\{([A-Z][A-Z_0-9]*)(?=[}:])',lambda y:'{'+(want(m,[],y[1]) or y[1]),s)
        if g=='com' and '`' in s:
            def c(x):
                w=x[1]; suf=x[2]
                segs=w.split('::')
                outsegs=list(segs)
                for a in range(len(segs)):
                    nn=want(m,segs[:a],segs[a])
                    if nn: outsegs[a]=nn
                return '`'+'::'.join(outsegs)+suf+'`'
            s=re.sub(r'`([A-Za-z_]\w*(?:::\w+)*)(\(\))?`',lambda x:c(x) if True else x[0],s.replace('()`','()`')) if False else re.sub(r'`((?:\w+::)*\w+)((?:\(\))?)`',c,s)
        res.append(s); i+=1
    return ''.join(res)
out={}
for f in files: out[f]=process(f)
for f in files:
    if out[f]!=open(f).read(): open(f,'w').write(out[f])
for p in problems: print('PROBLEM',p)
for (k,),rs in members.items():
    for rx,new,ls,sc in rs:
        if not usedm[(sc,rx)]: print('UNUSED member',sc,rx,'→',new)
